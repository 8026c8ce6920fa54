/// How JSON is written; the options and their defaults are those of Python's `json.dumps`.
public struct JSONFormat: Sendable, Hashable {
    /// What each level of nesting is indented by; nil writes everything in one line.
    public var indent: String?
    /// What stands between elements; nil means `", "`, or `","` if there is an indent.
    public var itemSeparator: String?
    /// What stands between a key and its value.
    public var keySeparator: String
    /// Whether everything outside ASCII is escaped.
    public var ensuresASCII: Bool
    /// Whether keys are sorted by Unicode scalars.
    public var sortsKeys: Bool

    /// Makes a format; the defaults are those of `json.dumps`.
    public init(
        indent: String? = nil, itemSeparator: String? = nil, keySeparator: String = ": ",
        ensuresASCII: Bool = true, sortsKeys: Bool = false
    ) {
        self.indent = indent
        self.itemSeparator = itemSeparator
        self.keySeparator = keySeparator
        self.ensuresASCII = ensuresASCII
        self.sortsKeys = sortsKeys
    }

    /// No white space at all, text as it is.
    public static let compact = JSONFormat(
        itemSeparator: ",", keySeparator: ":", ensuresASCII: false)
}

extension JSONValue {
    /// Writes the value as `json.dumps` does, character for character.
    ///
    /// Numbers that are not finite become `NaN`, `Infinity` and `-Infinity`, as in Python.
    ///
    /// - Parameter format: indentation, separators, escaping and key order.
    /// - Returns: the JSON text without a newline at its end.
    public func serialized(_ format: JSONFormat = JSONFormat()) -> String {
        var serializer = JSONSerializer(format: format)
        serializer.write(self, depth: 0)
        return serializer.text
    }
}

private struct JSONSerializer {
    let format: JSONFormat
    let itemSeparator: String
    var text = ""

    init(format: JSONFormat) {
        self.format = format
        itemSeparator = format.itemSeparator ?? (format.indent == nil ? ", " : ",")
    }

    mutating func write(_ value: JSONValue, depth: Int) {
        switch value {
        case .null: text += "null"
        case .bool(let value): text += value ? "true" : "false"
        case .int(let value): text += String(value)
        case .double(let value): text += Self.number(value)
        case .string(let value): writeString(value)
        case .array(let elements):
            writeItems(elements, "[", "]", depth: depth) { serializer, element in
                serializer.write(element, depth: depth + 1)
            }
        case .object(let object):
            let pairs = Array(object)
            let ordered =
                format.sortsKeys
                ? pairs.sorted { ExactString($0.key) < ExactString($1.key) } : pairs
            writeItems(ordered, "{", "}", depth: depth) { serializer, pair in
                serializer.writeString(pair.key)
                serializer.text += serializer.format.keySeparator
                serializer.write(pair.value, depth: depth + 1)
            }
        }
    }

    mutating func writeItems<Item>(
        _ items: [Item], _ opening: String, _ closing: String, depth: Int,
        _ write: (inout JSONSerializer, Item) -> Void
    ) {
        text += opening
        for (index, item) in items.enumerated() {
            if index > 0 { text += itemSeparator }
            startLine(depth: depth + 1)
            write(&self, item)
        }
        if !items.isEmpty { startLine(depth: depth) }
        text += closing
    }

    mutating func startLine(depth: Int) {
        guard let indent = format.indent else { return }
        text += "\n"
        for _ in 0..<depth { text += indent }
    }

    mutating func writeString(_ value: String) {
        text += "\""
        for scalar in value.unicodeScalars {
            switch scalar {
            case "\"": text += "\\\""
            case "\\": text += "\\\\"
            case "\n": text += "\\n"
            case "\r": text += "\\r"
            case "\t": text += "\\t"
            case "\u{8}": text += "\\b"
            case "\u{C}": text += "\\f"
            case "\0"..<" ": writeEscape(UInt16(scalar.value))
            case "\u{7F}"... where format.ensuresASCII:
                for unit in String(scalar).utf16 { writeEscape(unit) }
            default: text.unicodeScalars.append(scalar)
            }
        }
        text += "\""
    }

    mutating func writeEscape(_ unit: UInt16) {
        let digits = String(unit, radix: 16)
        text += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
    }

    static func number(_ value: Double) -> String {
        if value.isNaN { return "NaN" }
        if value.isInfinite { return value < 0 ? "-Infinity" : "Infinity" }
        return value.pythonRepresentation
    }
}
