/// The special variable `loop`.
///
/// Elements are fetched one by one, since a filter's test may depend on what the body has set.
///
/// - Source: jinja2 3.1.6 `runtime.py:LoopContext`.
final class TemplateLoop: TemplateObject {
    private var source: TemplateIterator
    private var knownLength: Int?
    private let recurse: ((TemplateValue, Int) throws(TemplateError) -> TemplateValue)?
    private let depth0: Int
    private var index0 = -1
    private var before: TemplateValue?
    private var current: TemplateValue?
    private var after: TemplateValue?
    private var lastChanged: [TemplateValue]?

    /// Makes a loop.
    ///
    /// - Parameters:
    ///   - source: the elements.
    ///   - length: their number, if it is known without fetching them.
    ///   - depth0: how many recursive loops are around this one.
    ///   - recurse: what `loop(items)` runs, nil unless the statement says `recursive`.
    init(
        _ source: TemplateIterator, length: Int?, depth0: Int,
        recurse: ((TemplateValue, Int) throws(TemplateError) -> TemplateValue)?
    ) {
        self.source = source
        knownLength = length
        self.depth0 = depth0
        self.recurse = recurse
    }

    /// The name of the type in messages.
    var typeName: String { "LoopContext" }
    /// `loop(...)` is for recursive loops.
    var isCallable: Bool { true }

    /// The position in the loop.
    var representation: String? {
        get throws(TemplateError) { "<LoopContext \(index0 + 1)/\(try length())>" }
    }

    /// Goes to the next element; nil at the end.
    func next() throws(TemplateError) -> TemplateValue? {
        guard let item = try peek() else { return nil }
        after = nil
        index0 += 1
        before = current
        current = item
        return item
    }

    /// The elements that are left, as `loop` itself may be iterated.
    var items: TemplateIterator {
        TemplateIterator { () throws(TemplateError) in
            guard let item = try self.next() else { return nil }
            return .tuple([item, .object(self)])
        }
    }

    /// The number of elements; fetches all of them if need be.
    func length() throws(TemplateError) -> Int {
        if let knownLength { return knownLength }
        let rest = try source.rest()
        source = TemplateIterator(rest)
        let length = rest.count + index0 + 1 + (after == nil ? 0 : 1)
        knownLength = length
        return length
    }

    private func peek() throws(TemplateError) -> TemplateValue? {
        if after == nil { after = try source.next() }
        return after
    }

    /// `index`, `last`, `previtem`, `cycle(...)` and so on.
    func attribute(_ name: String) throws(TemplateError) -> TemplateValue? {
        switch name {
        case "index": return .int(index0 + 1)
        case "index0": return .int(index0)
        case "revindex": return .int(try length() - index0)
        case "revindex0": return .int(try length() - index0 - 1)
        case "first": return .bool(index0 == 0)
        case "last": return .bool(try peek() == nil)
        case "length": return .int(try length())
        case "depth": return .int(depth0 + 1)
        case "depth0": return .int(depth0)
        case "previtem":
            return index0 == 0 ? .undefined("there is no previous item") : before
        case "nextitem": return try peek() ?? TemplateValue.undefined("there is no next item")
        case "cycle":
            return .object(
                TemplateFunction { (arguments, _) throws(TemplateError) in
                    let items = arguments.positional
                    guard !items.isEmpty, arguments.named.isEmpty else {
                        throw TemplateError(.type, "no items for cycling given")
                    }
                    return items[self.index0 % items.count]
                })
        case "changed":
            return .object(
                TemplateFunction { (arguments, _) throws(TemplateError) in
                    .bool(self.isChanged(arguments.positional))
                })
        default: return nil
        }
    }

    private func isChanged(_ values: [TemplateValue]) -> Bool {
        if let last = lastChanged, last.count == values.count,
            zip(last, values).allSatisfy({ $0.isEqual(to: $1) })
        {
            return false
        }
        lastChanged = values
        return true
    }

    /// `loop(items)`: the statement's text for other elements.
    func call(
        _ arguments: TemplateArguments, _ interpreter: TemplateInterpreter
    ) throws(TemplateError) -> TemplateValue {
        guard let recurse else {
            throw TemplateError(
                .type, "The loop must have the 'recursive' marker to be called recursively.")
        }
        let bound = try arguments.bind(to: ["iterable"], of: "loop")
        return try recurse(bound[0] ?? .null, depth0 + 1)
    }
}
