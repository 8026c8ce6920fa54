/// The functions that every template can call; a new one is a line in the table.
enum TemplateGlobals {
    /// The functions by name; `time` is what `strftime_now` tells.
    static func make(time: TemplateTime) -> [String: TemplateValue] {
        [
            "raise_exception": function { (arguments, _) throws(TemplateError) in
                let bound = try arguments.bind(to: ["message"], of: "raise_exception")
                throw TemplateError(.raised, try bound[0]?.string() ?? "")
            },
            "strftime_now": function { (arguments, _) throws(TemplateError) in
                let bound = try arguments.bind(to: ["format"], of: "strftime_now")
                return .string(try time.formatted(try bound.text(0)))
            },
            "range": function(makeRange),
            "namespace": function { (arguments, _) throws(TemplateError) in
                .object(try TemplateNamespace(try makeDictionary(arguments, of: "namespace")))
            },
            "dict": .object(DictionaryType()),
            "cycler": function { (arguments, _) throws(TemplateError) in
                guard arguments.named.isEmpty else {
                    throw TemplateError(.type, "cycler() takes no keyword arguments")
                }
                return .object(try TemplateCycler(arguments.positional))
            },
            "joiner": function { (arguments, _) throws(TemplateError) in
                let bound = try arguments.bind(to: ["sep?"], of: "joiner")
                return .object(TemplateJoiner(bound[0] ?? .string(", ")))
            },
            "self": .object(SelfReference()),
            "lipsum": function { (_, _) throws(TemplateError) in
                throw TemplateError(.unsupported, "the function 'lipsum' is not supported")
            },
        ]
    }

    private static func function(_ body: @escaping TemplateFunction.Body) -> TemplateValue {
        .object(TemplateFunction(body))
    }

    /// The sandbox's largest range.
    private static let maximumRange = 100_000

    private static func makeRange(
        _ arguments: TemplateArguments, _: TemplateInterpreter
    ) throws(TemplateError) -> TemplateValue {
        let bound = try arguments.bind(to: ["/start", "/stop?", "/step?"], of: "range")
        let first = try bound.int(0)
        let start = bound[1] == nil ? 0 : first
        let stop = bound[1] == nil ? first : try bound.int(1)
        let step = try bound.int(2, default: 1)
        guard step != 0 else { throw TemplateError(.value, "range() arg 3 must not be zero") }
        let limit = 1 << 60
        let isSmall = [start, stop, step].allSatisfy { (-limit...limit).contains($0) }
        let range = TemplateRange(start: start, stop: stop, step: step)
        guard isSmall, range.count <= maximumRange else {
            throw TemplateError(
                .value,
                "Range too big. The sandbox blocks ranges larger than MAX_RANGE (\(maximumRange)).")
        }
        return .range(range)
    }

    /// Python's `dict(pairs, name=value)`.
    fileprivate static func makeDictionary(
        _ arguments: TemplateArguments, of function: String
    ) throws(TemplateError) -> TemplateDictionary {
        var result = TemplateDictionary()
        guard arguments.positional.count <= 1 else {
            throw TemplateError(.type, "\(function)() expected at most 1 positional argument")
        }
        if case .dictionary(let dictionary) = arguments.positional.first {
            result = dictionary
        } else if let pairs = arguments.positional.first {
            for pair in try pairs.elements() {
                let items = try pair.elements()
                guard items.count == 2 else {
                    throw TemplateError(
                        .value, "\(function)(): expected pairs, found \(items.count) items")
                }
                try result.set(items[0], items[1])
            }
        }
        for (name, value) in arguments.named { result.set(name, value) }
        return result
    }

    /// The global `dict`: makes dictionaries.
    private final class DictionaryType: TemplateObject {
        var typeName: String { "TemplateDict" }
        var representation: String? { nil }
        var isCallable: Bool { true }

        func attribute(_ name: String) -> TemplateValue? {
            guard name == "fromkeys" else { return nil }
            return .method(TemplateBoundMethod(receiver: .dictionary(.init()), name: name))
        }

        func call(
            _ arguments: TemplateArguments, _ interpreter: TemplateInterpreter
        ) throws(TemplateError) -> TemplateValue {
            .dictionary(try makeDictionary(arguments, of: "dict"))
        }
    }

    /// The variable `self`: it knows the template's blocks, of which there are none.
    private final class SelfReference: TemplateObject {
        var typeName: String { "TemplateReference" }
        var representation: String? { "<TemplateReference None>" }
    }
}
