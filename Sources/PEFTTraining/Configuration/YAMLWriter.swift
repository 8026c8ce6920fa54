/// Writes values as YAML that `YAMLReader` reads back to the same values.
package enum YAMLWriter {
    /// One line for a value: lists and maps in brackets and braces, strings quoted where they must be.
    package static func text(of value: OptionValue) -> String {
        switch value.content {
        case .null: "null"
        case .boolean(let flag): "\(flag)"
        case .integer(let number): "\(number)"
        case .number(let number): text(of: number)
        case .string(let string): text(of: string)
        case .list(let items): "[" + items.map { text(of: $0) }.joined(separator: ", ") + "]"
        case .map(let entries):
            "{"
                + entries.map { "\(text(of: $0.key)): \(text(of: $0.value))" }
                .joined(separator: ", ") + "}"
        }
    }

    private static func text(of number: Double) -> String {
        if number.isNaN { return ".nan" }
        if number.isInfinite { return number < 0 ? "-.inf" : ".inf" }
        if let whole = Int(exactly: number), abs(whole) < 1_000_000_000 { return "\(whole)" }
        return "\(number)"
    }

    private static func text(of string: String) -> String {
        let isPlain = string.utf8.allSatisfy { byte in
            switch byte {
            case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
                UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "_"), UInt8(ascii: "."),
                UInt8(ascii: "/"), UInt8(ascii: "-"):
                true
            default: false
            }
        }
        if isPlain, string.first != "-", OptionValue.plain(string).content == .string(string) {
            return string
        }
        return quoted(string)
    }

    private static func quoted(_ string: String) -> String {
        var result = "\""
        for scalar in string.unicodeScalars {
            switch scalar {
            case "\"": result += "\\\""
            case "\\": result += "\\\\"
            case "\n": result += "\\n"
            case "\t": result += "\\t"
            case "\r": result += "\\r"
            case _ where scalar.value < 0x20 || (0x7F...0x9F).contains(scalar.value):
                result += "\\u" + hex(scalar.value, digits: 4)
            case "\u{2028}", "\u{2029}", "\u{FEFF}": result += "\\u" + hex(scalar.value, digits: 4)
            default: result.unicodeScalars.append(scalar)
            }
        }
        return result + "\""
    }

    private static func hex(_ value: UInt32, digits: Int) -> String {
        let text = String(value, radix: 16, uppercase: true)
        return String(repeating: "0", count: digits - text.count) + text
    }
}
