/// A type that an option can have: it is read from a file's value or a flag's arguments, and shown.
package protocol ConfigParsable: Equatable, Sendable {
    /// What a value must be, as error messages say it: "a whole number".
    static var expectation: String { get }
    /// The placeholder in help texts: "N".
    static var placeholder: String { get }
    /// How many arguments the flag takes.
    static var arity: ConfigArity { get }

    /// Reads a file's value; nil when it is of the wrong kind.
    init?(_ value: OptionValue)

    /// The file's value that a flag's arguments stand for.
    static func value(ofArguments arguments: [String]) -> OptionValue

    /// The value as a file holds it.
    var optionValue: OptionValue { get }
}

/// How many arguments an option's flag takes.
package enum ConfigArity: Sendable {
    /// None: `--packing` or `--no-packing`.
    case boolean
    /// One.
    case one
    /// One or more, up to the next flag; commas separate too.
    case many
    /// One or more, up to the next flag, which may be the same again.
    case repeated
}

extension ConfigParsable {
    package static var arity: ConfigArity { .one }

    package static func value(ofArguments arguments: [String]) -> OptionValue {
        .plain(arguments.first ?? "")
    }
}

extension Bool: ConfigParsable {
    package static var expectation: String { "true or false" }
    package static var placeholder: String { "true|false" }
    package static var arity: ConfigArity { .boolean }

    package init?(_ value: OptionValue) {
        guard case .boolean(let flag) = value.content else { return nil }
        self = flag
    }

    package var optionValue: OptionValue { OptionValue(.boolean(self)) }
}

extension Int: ConfigParsable {
    package static var expectation: String { "a whole number" }
    package static var placeholder: String { "N" }

    package init?(_ value: OptionValue) {
        guard case .integer(let number) = value.content else { return nil }
        self = number
    }

    package var optionValue: OptionValue { OptionValue(.integer(self)) }
}

extension Double: ConfigParsable {
    package static var expectation: String { "a number" }
    package static var placeholder: String { "X" }

    package init?(_ value: OptionValue) {
        switch value.content {
        case .integer(let number): self = Double(number)
        case .number(let number): self = number
        default: return nil
        }
    }

    package var optionValue: OptionValue { OptionValue(.number(self)) }
}

extension String: ConfigParsable {
    package static var expectation: String { "a string" }
    package static var placeholder: String { "TEXT" }

    package init?(_ value: OptionValue) {
        guard case .string(let text) = value.content else { return nil }
        self = text
    }

    package static func value(ofArguments arguments: [String]) -> OptionValue {
        OptionValue(.string(arguments.first ?? ""))
    }

    package var optionValue: OptionValue { OptionValue(.string(self)) }
}

extension Optional: ConfigParsable where Wrapped: ConfigParsable {
    package static var expectation: String { Wrapped.expectation }
    package static var placeholder: String { Wrapped.placeholder }
    package static var arity: ConfigArity { Wrapped.arity }

    package init?(_ value: OptionValue) {
        if value.content == .null {
            self = Wrapped?.none
        } else if let wrapped = Wrapped(value) {
            self = wrapped
        } else {
            return nil
        }
    }

    package static func value(ofArguments arguments: [String]) -> OptionValue {
        Wrapped.value(ofArguments: arguments)
    }

    package var optionValue: OptionValue {
        self?.optionValue ?? OptionValue(.null)
    }
}

/// On the command line `ITEM,...`, or a YAML list in brackets for items that hold commas.
extension Array: ConfigParsable where Element: ConfigParsable {
    package static var expectation: String { "a list, each item \(Element.expectation)" }
    package static var placeholder: String { "\(Element.placeholder),..." }
    package static var arity: ConfigArity { .many }

    package init?(_ value: OptionValue) {
        guard case .list(let items) = value.content else { return nil }
        let elements = items.compactMap { Element($0) }
        guard elements.count == items.count else { return nil }
        self = elements
    }

    package static func value(ofArguments arguments: [String]) -> OptionValue {
        if arguments.count == 1, let only = arguments.first, only.hasPrefix("[") {
            return (try? YAMLReader.read(only)) ?? OptionValue(.string(only))
        }
        let words = arguments.flatMap { $0.split(separator: ",", omittingEmptySubsequences: false) }
        return OptionValue(.list(words.map { Element.value(ofArguments: [String($0)]) }))
    }

    package var optionValue: OptionValue { OptionValue(.list(map(\.optionValue))) }
}

/// On the command line `NAME=NUMBER,...`, or a YAML map in braces for names that hold commas.
extension Dictionary: ConfigParsable where Key == String, Value: ConfigParsable {
    package static var expectation: String {
        "a map from names to values, each \(Value.expectation)"
    }
    package static var placeholder: String { "NAME=\(Value.placeholder),..." }
    package static var arity: ConfigArity { .many }

    package init?(_ value: OptionValue) {
        guard case .map(let entries) = value.content else { return nil }
        self.init()
        for entry in entries {
            guard let item = Value(entry.value) else { return nil }
            self[entry.key] = item
        }
    }

    package static func value(ofArguments arguments: [String]) -> OptionValue {
        if arguments.count == 1, let only = arguments.first, only.hasPrefix("{") {
            return (try? YAMLReader.read(only)) ?? OptionValue(.string(only))
        }
        var entries: [OptionEntry] = []
        for word in arguments.flatMap({ $0.split(separator: ",") }) {
            guard let equals = word.lastIndex(of: "=") else {
                return OptionValue(.string(String(word)))
            }
            let number = Value.value(ofArguments: [String(word[word.index(after: equals)...])])
            entries.append(OptionEntry(key: String(word[..<equals]), value: number))
        }
        return OptionValue(.map(entries))
    }

    package var optionValue: OptionValue {
        let entries = sorted { $0.key < $1.key }.map { key, value in
            OptionEntry(key: key, value: value.optionValue)
        }
        return OptionValue(.map(entries))
    }
}

/// An option that takes one of a few words.
package protocol ConfigChoice: ConfigParsable, RawRepresentable<String>, CaseIterable {}

extension ConfigChoice {
    package static var expectation: String {
        "one of " + allCases.map(\.rawValue).joined(separator: ", ")
    }
    package static var placeholder: String { allCases.map(\.rawValue).joined(separator: "|") }

    package init?(_ value: OptionValue) {
        guard case .string(let word) = value.content else { return nil }
        self.init(rawValue: word)
    }

    package static func value(ofArguments arguments: [String]) -> OptionValue {
        String.value(ofArguments: arguments)
    }

    package var optionValue: OptionValue { OptionValue(.string(rawValue)) }
}

/// A choice that is written as a text, and that is no list of names.
extension ConfigParsable where Self: LosslessStringConvertible {
    package init?(_ value: OptionValue) {
        guard case .string(let text) = value.content else { return nil }
        self.init(text)
    }

    package var optionValue: OptionValue { description.optionValue }

    /// Reads the text form: what `Decodable` asks for.
    static func decoded(from decoder: any Decoder) throws -> Self {
        let container = try decoder.singleValueContainer()
        let text = try container.decode(String.self)
        guard let choice = Self(text) else {
            throw DecodingError.dataCorruptedError(
                in: container, debugDescription: "expected \(expectation), found \(text)")
        }
        return choice
    }
}
