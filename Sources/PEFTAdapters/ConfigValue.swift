package import Foundation

/// A JSON value of an adapter configuration, written the way Python's `json.dumps` writes it.
///
/// Object keys have no order: PEFT sorts them when it writes.
public enum ConfigValue: Hashable, Sendable {
    /// `null`.
    case null
    /// `true` or `false`.
    case bool(Bool)
    /// A whole number.
    case int(Int)
    /// Any other number.
    case double(Double)
    /// Text.
    case string(String)
    /// A list.
    case array([ConfigValue])
    /// Values by name.
    case object([String: ConfigValue])

    /// Whether the value switches nothing on: null, false, or empty, at any depth.
    package var isInert: Bool {
        switch self {
        case .null, .bool(false): true
        case .bool, .int, .double: false
        case .string(let text): text.isEmpty
        case .array(let elements): elements.allSatisfy(\.isInert)
        case .object(let members): members.values.allSatisfy(\.isInert)
        }
    }
}

// MARK: - Reading

extension ConfigValue: Codable {
    /// Reads any JSON value.
    public init(from decoder: any Decoder) throws {
        let container = try decoder.singleValueContainer()
        if container.decodeNil() {
            self = .null
        } else if let value = try? container.decode(Bool.self) {
            self = .bool(value)
        } else if let value = try? container.decode(Int.self) {
            self = .int(value)
        } else if let value = try? container.decode(Double.self) {
            self = .double(value)
        } else if let value = try? container.decode(String.self) {
            self = .string(value)
        } else if let value = try? container.decode([ConfigValue].self) {
            self = .array(value)
        } else {
            self = .object(try container.decode([String: ConfigValue].self))
        }
    }

    /// Writes the value as it is.
    public func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        switch self {
        case .null: try container.encodeNil()
        case .bool(let value): try container.encode(value)
        case .int(let value): try container.encode(value)
        case .double(let value): try container.encode(value)
        case .string(let value): try container.encode(value)
        case .array(let value): try container.encode(value)
        case .object(let value): try container.encode(value)
        }
    }

    /// Parses a whole JSON document.
    ///
    /// - Throws: `AdapterError.invalidConfig` with the place of the syntax error.
    package init(json data: Data) throws(AdapterError) {
        do {
            self = try JSONDecoder().decode(ConfigValue.self, from: data)
        } catch let DecodingError.dataCorrupted(context) {
            let cause = (context.underlyingError as NSError?)?.userInfo[NSDebugDescriptionErrorKey]
            let detail = cause as? String ?? context.debugDescription
            throw .invalidConfig([.notJSON(detail)])
        } catch {
            throw .invalidConfig([.notJSON("\(error)")])
        }
    }
}

// MARK: - Writing like Python

extension ConfigValue: CustomStringConvertible {
    /// The value on one line, as `json.dumps(value, sort_keys=True)` writes it.
    public var description: String {
        var text = ""
        write(to: &text, indent: nil, level: 0)
        return text
    }

    /// The text of `json.dumps(value, indent=2, sort_keys=True)`: no newline at the end.
    package var pythonJSON: String {
        var text = ""
        write(to: &text, indent: 2, level: 0)
        return text
    }

    private func write(to text: inout String, indent: Int?, level: Int) {
        switch self {
        case .null: text += "null"
        case .bool(let value): text += value ? "true" : "false"
        case .int(let value): text += String(value)
        case .double(let value): text += Self.pythonRepresentation(of: value)
        case .string(let value): text += Self.quoted(value)
        case .array(let elements):
            Self.writeList(elements, between: ("[", "]"), to: &text, indent: indent, level: level) {
                $0.write(to: &$1, indent: indent, level: level + 1)
            }
        case .object(let members):
            let sorted = members.sorted {
                $0.key.unicodeScalars.lexicographicallyPrecedes($1.key.unicodeScalars)
            }
            Self.writeList(sorted, between: ("{", "}"), to: &text, indent: indent, level: level) {
                $1 += Self.quoted($0.key) + ": "
                $0.value.write(to: &$1, indent: indent, level: level + 1)
            }
        }
    }

    private static func writeList<Element>(
        _ elements: [Element], between marks: (String, String), to text: inout String, indent: Int?,
        level: Int, each: (Element, inout String) -> Void
    ) {
        text += marks.0
        for (index, element) in elements.enumerated() {
            if let indent {
                text += (index == 0 ? "\n" : ",\n")
                text += String(repeating: " ", count: indent * (level + 1))
            } else if index > 0 {
                text += ", "
            }
            each(element, &text)
        }
        if let indent, !elements.isEmpty {
            text += "\n" + String(repeating: " ", count: indent * level)
        }
        text += marks.1
    }

    /// Python's `repr(float)`: the shortest digits that read back, exponent form from 1e16 on and below 1e-4.
    private static func pythonRepresentation(of value: Double) -> String {
        let swift = value.description
        guard value.magnitude >= 1e16, value.isFinite, !swift.contains("e") else { return swift }
        // Swift prints whole numbers up to 2^54 without an exponent.
        let sign = value < 0 ? "-" : ""
        let digits = swift.dropFirst(sign.count).dropLast(2)
        var mantissa = digits.dropFirst()
        while mantissa.last == "0" { mantissa.removeLast() }
        let fraction = mantissa.isEmpty ? "" : "." + mantissa
        return sign + digits.prefix(1) + fraction + "e+\(digits.count - 1)"
    }

    /// A JSON string in ASCII, as with `ensure_ascii=True`.
    private static func quoted(_ string: String) -> String {
        var text = "\""
        for unit in string.utf16 {
            switch unit {
            case 0x22: text += "\\\""
            case 0x5C: text += "\\\\"
            case 0x0A: text += "\\n"
            case 0x0D: text += "\\r"
            case 0x09: text += "\\t"
            case 0x08: text += "\\b"
            case 0x0C: text += "\\f"
            case 0x20..<0x7F: text.unicodeScalars.append(Unicode.Scalar(UInt8(unit)))
            default:
                let hex = String(unit, radix: 16)
                text += "\\u" + String(repeating: "0", count: 4 - hex.count) + hex
            }
        }
        return text + "\""
    }
}
