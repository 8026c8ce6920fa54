/// What `namespace(...)` returns: an object whose attributes a template may set.
final class TemplateNamespace: TemplateObject {
    private var attributes: TemplateDictionary

    /// Makes a namespace; as in transformers, names must not start with an underscore.
    init(_ attributes: TemplateDictionary) throws(TemplateError) {
        self.attributes = attributes
        for key in attributes.keys { try Self.check(key) }
    }

    /// The name of the type in messages.
    var typeName: String { "Namespace" }

    /// The attributes as a dictionary.
    var representation: String? {
        get throws(TemplateError) { "<Namespace \(try attributes.representation())>" }
    }

    /// The attribute `name`.
    func attribute(_ name: String) -> TemplateValue? { attributes[name] }

    /// Sets the attribute `name`.
    func set(_ name: String, _ value: TemplateValue) throws(TemplateError) {
        try Self.check(.string(name))
        attributes.set(name, value)
    }

    private static func check(_ key: TemplateValue) throws(TemplateError) {
        guard let name = key.text, name.hasPrefix("_") else { return }
        throw TemplateError(
            .forbidden,
            "a namespace cannot store the attribute '\(name)': rename it, without the underscore")
    }
}

/// What `cycler(...)` returns: it steps through its values again and again.
final class TemplateCycler: TemplateObject {
    private let items: [TemplateValue]
    private var position = 0

    /// Makes a cycler over `items`.
    init(_ items: [TemplateValue]) throws(TemplateError) {
        if items.isEmpty {
            throw TemplateError(.value, "at least one item has to be provided to cycler()")
        }
        self.items = items
    }

    /// The name of the type in messages.
    var typeName: String { "Cycler" }
    /// Python shows an address.
    var representation: String? { nil }

    /// `current`, `items`, `pos`, `next()` and `reset()`.
    func attribute(_ name: String) -> TemplateValue? {
        switch name {
        case "current": return items[position]
        case "items": return .tuple(items)
        case "pos": return .int(position)
        case "next":
            return .object(
                TemplateFunction { (arguments, _) throws(TemplateError) in
                    _ = try arguments.bind(to: [], of: "next")
                    defer { self.position = (self.position + 1) % self.items.count }
                    return self.items[self.position]
                })
        case "reset":
            return .object(
                TemplateFunction { (arguments, _) throws(TemplateError) in
                    _ = try arguments.bind(to: [], of: "reset")
                    self.position = 0
                    return .null
                })
        default: return nil
        }
    }
}

/// What `joiner(sep)` returns: nothing at the first call, then the separator.
final class TemplateJoiner: TemplateObject {
    private let separator: TemplateValue
    private var isUsed = false

    /// Makes a joiner.
    init(_ separator: TemplateValue) { self.separator = separator }

    /// The name of the type in messages.
    var typeName: String { "Joiner" }
    /// Python shows an address.
    var representation: String? { nil }
    /// Joiners are called for the separator.
    var isCallable: Bool { true }

    /// `sep` and `used`.
    func attribute(_ name: String) -> TemplateValue? {
        switch name {
        case "sep": separator
        case "used": .bool(isUsed)
        default: nil
        }
    }

    /// The separator, but for the first call.
    func call(
        _ arguments: TemplateArguments, _ interpreter: TemplateInterpreter
    ) throws(TemplateError) -> TemplateValue {
        _ = try arguments.bind(to: [], of: "joiner")
        defer { isUsed = true }
        return isUsed ? separator : .string("")
    }
}
