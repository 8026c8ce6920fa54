/// A type that an option can have: it is read from a file's value or a flag's arguments, and shown.
package protocol ConfigParsable: Equatable, Sendable {
    /// What a value must be, as error messages say it: "a whole number".
    static var expectation: String { get }
    /// The placeholder in help texts: "N".
    static var placeholder: String { get }
    /// How many arguments the flag takes.
    static var arity: ConfigArity { get }

    /// Reads a file's value; nil when it is of the wrong kind.
    init?(_ value: ConfigValue)

    /// The file's value that a flag's arguments stand for.
    static func value(ofArguments arguments: [String]) -> ConfigValue

    /// The value as a file holds it.
    var configValue: ConfigValue { get }
}

/// How many arguments an option's flag takes.
package enum ConfigArity: Sendable {
    /// None: `--packing` or `--no-packing`.
    case boolean
    /// One.
    case one
    /// One or more, up to the next flag; commas separate too.
    case many
}

extension ConfigParsable {
    package static var arity: ConfigArity { .one }

    package static func value(ofArguments arguments: [String]) -> ConfigValue {
        .plain(arguments.first ?? "")
    }
}

extension Bool: ConfigParsable {
    package static var expectation: String { "true or false" }
    package static var placeholder: String { "true|false" }
    package static var arity: ConfigArity { .boolean }

    package init?(_ value: ConfigValue) {
        guard case .boolean(let flag) = value.content else { return nil }
        self = flag
    }

    package var configValue: ConfigValue { ConfigValue(.boolean(self)) }
}

extension Int: ConfigParsable {
    package static var expectation: String { "a whole number" }
    package static var placeholder: String { "N" }

    package init?(_ value: ConfigValue) {
        guard case .integer(let number) = value.content else { return nil }
        self = number
    }

    package var configValue: ConfigValue { ConfigValue(.integer(self)) }
}

extension Double: ConfigParsable {
    package static var expectation: String { "a number" }
    package static var placeholder: String { "X" }

    package init?(_ value: ConfigValue) {
        switch value.content {
        case .integer(let number): self = Double(number)
        case .number(let number): self = number
        default: return nil
        }
    }

    package var configValue: ConfigValue { ConfigValue(.number(self)) }
}

extension String: ConfigParsable {
    package static var expectation: String { "a string" }
    package static var placeholder: String { "TEXT" }

    package init?(_ value: ConfigValue) {
        guard case .string(let text) = value.content else { return nil }
        self = text
    }

    package static func value(ofArguments arguments: [String]) -> ConfigValue {
        ConfigValue(.string(arguments.first ?? ""))
    }

    package var configValue: ConfigValue { ConfigValue(.string(self)) }
}

extension Optional: ConfigParsable where Wrapped: ConfigParsable {
    package static var expectation: String { Wrapped.expectation }
    package static var placeholder: String { Wrapped.placeholder }
    package static var arity: ConfigArity { Wrapped.arity }

    package init?(_ value: ConfigValue) {
        if value.content == .null {
            self = Wrapped?.none
        } else if let wrapped = Wrapped(value) {
            self = wrapped
        } else {
            return nil
        }
    }

    package static func value(ofArguments arguments: [String]) -> ConfigValue {
        Wrapped.value(ofArguments: arguments)
    }

    package var configValue: ConfigValue {
        self?.configValue ?? ConfigValue(.null)
    }
}

extension Array: ConfigParsable where Element: ConfigParsable {
    package static var expectation: String { "a list, each item \(Element.expectation)" }
    package static var placeholder: String { "\(Element.placeholder),..." }
    package static var arity: ConfigArity { .many }

    package init?(_ value: ConfigValue) {
        guard case .list(let items) = value.content else { return nil }
        let elements = items.compactMap { Element($0) }
        guard elements.count == items.count else { return nil }
        self = elements
    }

    package static func value(ofArguments arguments: [String]) -> ConfigValue {
        let words = arguments.flatMap { $0.split(separator: ",", omittingEmptySubsequences: false) }
        return ConfigValue(.list(words.map { Element.value(ofArguments: [String($0)]) }))
    }

    package var configValue: ConfigValue { ConfigValue(.list(map(\.configValue))) }
}

/// On the command line `NAME=NUMBER,...`, or a YAML map in braces for names that hold commas.
extension Dictionary: ConfigParsable where Key == String, Value: ConfigParsable {
    package static var expectation: String {
        "a map from names to values, each \(Value.expectation)"
    }
    package static var placeholder: String { "NAME=\(Value.placeholder),..." }
    package static var arity: ConfigArity { .many }

    package init?(_ value: ConfigValue) {
        guard case .map(let entries) = value.content else { return nil }
        self.init()
        for entry in entries {
            guard let item = Value(entry.value) else { return nil }
            self[entry.key] = item
        }
    }

    package static func value(ofArguments arguments: [String]) -> ConfigValue {
        if arguments.count == 1, let only = arguments.first, only.hasPrefix("{") {
            return (try? YAMLReader.read(only)) ?? ConfigValue(.string(only))
        }
        var entries: [ConfigEntry] = []
        for word in arguments.flatMap({ $0.split(separator: ",") }) {
            guard let equals = word.lastIndex(of: "=") else {
                return ConfigValue(.string(String(word)))
            }
            let number = Value.value(ofArguments: [String(word[word.index(after: equals)...])])
            entries.append(ConfigEntry(key: String(word[..<equals]), value: number))
        }
        return ConfigValue(.map(entries))
    }

    package var configValue: ConfigValue {
        let entries = sorted { $0.key < $1.key }.map { key, value in
            ConfigEntry(key: key, value: value.configValue)
        }
        return ConfigValue(.map(entries))
    }
}

/// An option that takes one of a few words.
package protocol ConfigChoice: ConfigParsable, RawRepresentable<String>, CaseIterable {}

extension ConfigChoice {
    package static var expectation: String {
        "one of " + allCases.map(\.rawValue).joined(separator: ", ")
    }
    package static var placeholder: String { allCases.map(\.rawValue).joined(separator: "|") }

    package init?(_ value: ConfigValue) {
        guard case .string(let word) = value.content else { return nil }
        self.init(rawValue: word)
    }

    package static func value(ofArguments arguments: [String]) -> ConfigValue {
        String.value(ofArguments: arguments)
    }

    package var configValue: ConfigValue { ConfigValue(.string(rawValue)) }
}
