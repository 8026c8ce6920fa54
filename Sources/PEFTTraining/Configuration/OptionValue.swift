/// One value of a configuration file, with the line where it begins.
package struct OptionValue: Equatable, Sendable {
    /// What a value can be.
    package indirect enum Content: Equatable, Sendable {
        case null
        case boolean(Bool)
        case integer(Int)
        case number(Double)
        case string(String)
        case list([OptionValue])
        case map([OptionEntry])
    }

    /// The value itself.
    package var content: Content
    /// The line in its file, from 1; 0 for a value that comes from elsewhere.
    package var line: Int

    /// Makes a value; without a line it is one that no file holds.
    package init(_ content: Content, line: Int = 0) {
        self.content = content
        self.line = line
    }

    /// The value as an error message names it: `the string "fast"`, `the whole number 3`.
    package var described: String {
        switch content {
        case .null: "nothing"
        case .boolean(let value): "\(value)"
        case .integer(let value): "the whole number \(value)"
        case .number(let value): "the number \(value)"
        case .string(let value): "the string \"\(value)\""
        case .list: "a list"
        case .map: "a map"
        }
    }

    /// Equal contents make equal values: the line does not count.
    package static func == (left: OptionValue, right: OptionValue) -> Bool {
        left.content == right.content
    }
}

/// One `key: value` of a map, in file order.
package struct OptionEntry: Equatable, Sendable {
    /// The key.
    package var key: String
    /// The line of the key in its file, from 1.
    package var line: Int
    /// The value.
    package var value: OptionValue

    /// Makes an entry.
    package init(key: String, line: Int = 0, value: OptionValue) {
        self.key = key
        self.line = line
        self.value = value
    }
}

extension OptionValue {
    /// Reads an unquoted scalar as YAML 1.2's core schema does.
    ///
    /// `2e-4` is a number, `no` and `on` are strings. A whole number that 64 bits cannot hold is a
    /// `number`.
    ///
    /// - Source: YAML 1.2.2, section 10.3.2
    package static func plain(_ text: String, line: Int = 0) -> OptionValue {
        OptionValue(plainContent(text), line: line)
    }

    private static func plainContent(_ text: String) -> Content {
        switch text {
        case "", "~", "null", "Null", "NULL": return .null
        case "true", "True", "TRUE": return .boolean(true)
        case "false", "False", "FALSE": return .boolean(false)
        case ".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF": return .number(.infinity)
        case "-.inf", "-.Inf", "-.INF": return .number(-.infinity)
        case ".nan", ".NaN", ".NAN": return .number(.nan)
        default: break
        }
        if let value = wholeNumber(text) { return .integer(value) }
        if isDecimal(text), let value = Double(text) { return .number(value) }
        return .string(text)
    }

    private static func wholeNumber(_ text: String) -> Int? {
        for (prefix, radix) in [("0x", 16), ("0o", 8)] where text.hasPrefix(prefix) {
            let digits = text.dropFirst(2)
            return digits.allSatisfy(\.isHexDigit) ? Int(digits, radix: radix) : nil
        }
        return Int(text)  // [-+]?[0-9]+
    }

    /// Whether a text is a decimal number.
    ///
    /// That is `[-+]? ( \. [0-9]+ | [0-9]+ ( \. [0-9]* )? ) ( [eE] [-+]? [0-9]+ )?`
    private static func isDecimal(_ text: String) -> Bool {
        var rest = text.utf8[...]
        func skipDigits() -> Int {
            let digits = rest.prefix { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }
            rest = rest[digits.endIndex...]
            return digits.count
        }
        func skip(anyOf characters: StaticString) -> Bool {
            let found = rest.first.map { first in
                characters.withUTF8Buffer { $0.contains(first) }
            }
            guard found == true else { return false }
            rest.removeFirst()
            return true
        }
        _ = skip(anyOf: "+-")
        var numDigits = skipDigits()
        let hadWhole = numDigits > 0
        if skip(anyOf: ".") { numDigits += skipDigits() }
        guard hadWhole || numDigits > 0 else { return false }
        if skip(anyOf: "eE") {
            _ = skip(anyOf: "+-")
            guard skipDigits() > 0 else { return false }
        }
        return rest.isEmpty
    }
}
