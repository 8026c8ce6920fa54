/// The methods of the built-in types; a new method is a line in a table.
enum TemplateMethods {
    /// The methods of the type of `value`, nil if it has none here.
    static func table(for value: TemplateValue) -> [String: TemplateMethod]? {
        switch value {
        case .string, .markup: text
        case .dictionary: dictionary
        case .list: list
        case .tuple: sequence
        case .range: sequence
        default: nil
        }
    }

    /// Calls a bound method.
    static func call(
        _ method: TemplateBoundMethod, _ arguments: TemplateArguments
    ) throws(TemplateError) -> TemplateValue {
        guard let function = table(for: method.receiver)?[method.name] else {
            throw TemplateError(.unsupported, "the method '\(method.name)' is not supported")
        }
        guard case .markup(let text) = method.receiver else {
            return try function.call(method.receiver, arguments)
        }
        return try markedUp(method.name, text, function, arguments)
    }

    /// The methods of text keep it marked as safe, and escape what they add.
    private static func markedUp(
        _ name: String, _ text: String, _ function: TemplateMethod, _ arguments: TemplateArguments
    ) throws(TemplateError) -> TemplateValue {
        if name == "format" || name == "format_map" {
            throw TemplateError(.unsupported, "the method '\(name)' of Markup is not supported")
        }
        var arguments = arguments
        if name == "replace", arguments.positional.count > 1 {
            arguments.positional[1] = .string(try arguments.positional[1].escaped())
        } else if name == "join", let items = arguments.positional.first {
            var escaped: [String] = []
            for item in try items.elements() { escaped.append(try item.escaped()) }
            arguments.positional[0] = .strings(escaped)
        }
        func marked(_ value: TemplateValue) -> TemplateValue {
            if case .string(let text) = value { .markup(text) } else { value }
        }
        switch try function.call(.string(text), arguments) {
        case .list(let items): return .list(items.map(marked))
        case .tuple(let tuple): return .tuple(tuple.items.map(marked))
        case let result: return marked(result)
        }
    }

    // MARK: Names without a table entry

    /// Methods that would change a list or dictionary: the sandbox hides them.
    static func forbiddenNames(of value: TemplateValue) -> Set<String> {
        switch value {
        case .list:
            ["append", "clear", "extend", "insert", "pop", "remove", "reverse", "sort"]
        case .dictionary: ["clear", "pop", "popitem", "setdefault", "update"]
        default: []
        }
    }

    /// Attributes that Python has and this interpreter has not.
    static func unsupportedNames(of value: TemplateValue) -> Set<String> {
        switch value {
        case .string, .markup: ["encode", "maketrans", "translate"]
        case .int, .bool:
            [
                "as_integer_ratio", "bit_count", "bit_length", "conjugate", "denominator",
                "from_bytes", "imag", "numerator", "real", "to_bytes",
            ]
        case .double:
            ["as_integer_ratio", "conjugate", "fromhex", "hex", "imag", "is_integer", "real"]
        case .range: ["start", "step", "stop"]
        case .view: ["isdisjoint", "mapping"]
        case .iterator: ["close", "gi_code", "gi_frame", "gi_running", "send", "throw"]
        default: []
        }
    }

    /// Attributes of every Python object, all of them hidden by the sandbox.
    static let internalNames: Set<String> = [
        "__class__", "__delattr__", "__dir__", "__doc__", "__eq__", "__format__", "__ge__",
        "__getattribute__", "__getstate__", "__gt__", "__hash__", "__init__", "__init_subclass__",
        "__le__", "__lt__", "__ne__", "__new__", "__reduce__", "__reduce_ex__", "__repr__",
        "__setattr__", "__sizeof__", "__str__", "__subclasshook__",
    ]
}

// MARK: Dictionaries and sequences

extension TemplateMethods {
    /// The methods of dict.
    static let dictionary: [String: TemplateMethod] = [
        "copy": TemplateMethod("copy") { value, _ in value },
        "fromkeys": TemplateMethod("fromkeys", ["/iterable", "/value?"]) {
            (_, arguments) throws(TemplateError) in
            var result = TemplateDictionary()
            for key in try (arguments[0] ?? .null).elements() {
                try result.set(key, arguments[1] ?? .null)
            }
            return .dictionary(result)
        },
        "get": TemplateMethod("get", ["/key", "/default?"]) {
            (value, arguments) throws(TemplateError) in
            guard case .dictionary(let dictionary) = value else { return .null }
            return try dictionary.value(for: arguments[0] ?? .null) ?? arguments[1] ?? .null
        },
        "items": TemplateMethod("items") { value, _ in view(.items, of: value) },
        "keys": TemplateMethod("keys") { value, _ in view(.keys, of: value) },
        "values": TemplateMethod("values") { value, _ in view(.values, of: value) },
    ]

    /// The methods of list.
    static let list = sequence.merging(
        ["copy": TemplateMethod("copy") { value, _ in value }], uniquingKeysWith: { old, _ in old })

    /// The methods of every sequence but strings.
    static let sequence: [String: TemplateMethod] = [
        "count": TemplateMethod("count", ["/value"]) { (value, arguments) throws(TemplateError) in
            let item = arguments[0] ?? .null
            return .int(try value.elements().count { $0.isEqual(to: item) })
        },
        "index": TemplateMethod("index", ["/value", "/start?", "/stop?"]) {
            (value, arguments) throws(TemplateError) in
            let items = try value.elements()
            let item = arguments[0] ?? .null
            let bounds = try searchBounds(arguments, count: items.count)
            guard let index = bounds.first(where: { items[$0].isEqual(to: item) }) else {
                throw TemplateError(.value, "\(try item.representation()) is not in list")
            }
            return .int(index)
        },
    ]

    private static func view(
        _ kind: TemplateDictionaryView.Kind, of value: TemplateValue
    ) -> TemplateValue {
        guard case .dictionary(let dictionary) = value else { return .null }
        return .view(TemplateDictionaryView(kind: kind, dictionary: dictionary))
    }

    /// The range that the second and third argument of a search name.
    static func searchBounds(
        _ arguments: TemplateBoundArguments, count: Int
    ) throws(TemplateError) -> Range<Int> {
        func bound(_ index: Int, default defaultValue: Int) throws(TemplateError) -> Int {
            guard arguments.optional(index) != nil else { return defaultValue }
            let position = try arguments.int(index)
            return min(max(position < 0 ? position &+ count : position, 0), count)
        }
        let start = try bound(1, default: 0)
        return start..<max(start, try bound(2, default: count))
    }
}
