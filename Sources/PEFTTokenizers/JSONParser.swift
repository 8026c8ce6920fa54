public import Foundation

extension JSONValue {
    /// Arrays and objects may be nested this deep, unless the caller says otherwise.
    public static let defaultMaximumDepth = 512

    /// Parses one JSON text (RFC 8259, UTF-8, a byte order mark is skipped).
    ///
    /// As in Python's `json`, the last of several equal keys wins and keeps the first one's place.
    /// Integers beyond 64 bits become doubles; a lone surrogate escape becomes U+FFFD. Other than
    /// Python's, this parser refuses `NaN` and `Infinity`.
    ///
    /// - Parameters:
    ///   - bytes: the whole text.
    ///   - maximumDepth: the number of nested arrays and objects that is accepted.
    /// - Throws: `JSONError` with the place of the first violation.
    public init(
        parsing bytes: UnsafeRawBufferPointer, maximumDepth: Int = Self.defaultMaximumDepth
    ) throws(JSONError) {
        var parser = JSONParser(
            bytes: bytes.bindMemory(to: UInt8.self), remainingDepth: maximumDepth)
        self = try parser.parseDocument()
    }

    /// Parses one JSON text held in `data`.
    public init(
        parsing data: Data, maximumDepth: Int = Self.defaultMaximumDepth
    ) throws(JSONError) {
        self = try data.withUnsafeBytes { bytes in
            Result { () throws(JSONError) in
                try JSONValue(parsing: bytes, maximumDepth: maximumDepth)
            }
        }.get()
    }

    /// Parses one JSON text.
    public init(
        parsing text: String, maximumDepth: Int = Self.defaultMaximumDepth
    ) throws(JSONError) {
        var text = text
        self = try text.withUTF8 { bytes in
            Result { () throws(JSONError) in
                try JSONValue(
                    parsing: UnsafeRawBufferPointer(bytes), maximumDepth: maximumDepth)
            }
        }.get()
    }
}

/// A recursive-descent parser over the bytes of one JSON text.
private struct JSONParser {
    let bytes: UnsafeBufferPointer<UInt8>
    var remainingDepth: Int
    var position = 0

    init(bytes: UnsafeBufferPointer<UInt8>, remainingDepth: Int) {
        self.bytes = bytes
        self.remainingDepth = remainingDepth
    }

    var current: UInt8? { position < bytes.count ? bytes[position] : nil }

    mutating func parseDocument() throws(JSONError) -> JSONValue {
        if bytes.starts(with: [0xEF, 0xBB, 0xBF]) { position = 3 }
        skipSpace()
        let value = try parseValue()
        skipSpace()
        if position < bytes.count { throw failure("the end of the text") }
        return value
    }

    mutating func skipSpace() {
        while position < bytes.count {
            switch bytes[position] {
            case 0x20, 0x0A, 0x0D, 0x09: position += 1
            default: return
            }
        }
    }

    mutating func parseValue() throws(JSONError) -> JSONValue {
        switch current {
        case UInt8(ascii: "\""):
            return .string(try parseString())
        case UInt8(ascii: "{"):
            return try nested { (parser) throws(JSONError) in try parser.parseObject() }
        case UInt8(ascii: "["):
            return try nested { (parser) throws(JSONError) in try parser.parseArray() }
        case let byte? where byte == UInt8(ascii: "-") || isDigit(byte):
            return try parseNumber()
        case UInt8(ascii: "t"):
            return try parseLiteral("true", .bool(true))
        case UInt8(ascii: "f"):
            return try parseLiteral("false", .bool(false))
        case UInt8(ascii: "n"):
            return try parseLiteral("null", .null)
        default:
            throw failure("a value")
        }
    }

    mutating func nested(
        _ parse: (inout JSONParser) throws(JSONError) -> JSONValue
    ) throws(JSONError) -> JSONValue {
        guard remainingDepth > 0 else {
            throw failure("no deeper nesting of arrays and objects")
        }
        remainingDepth -= 1
        position += 1
        skipSpace()
        let value = try parse(&self)
        remainingDepth += 1
        return value
    }

    mutating func parseObject() throws(JSONError) -> JSONValue {
        var object = JSONObject()
        if skip("}") { return .object(object) }
        while true {
            guard current == UInt8(ascii: "\"") else { throw failure("a key in double quotes") }
            let key = try parseString()
            skipSpace()
            guard skip(":") else { throw failure("\":\" after the key") }
            skipSpace()
            object[key] = try parseValue()
            skipSpace()
            if skip("}") { return .object(object) }
            guard skip(",") else { throw failure("\",\" or \"}\"") }
            skipSpace()
        }
    }

    mutating func parseArray() throws(JSONError) -> JSONValue {
        var elements: [JSONValue] = []
        if skip("]") { return .array(elements) }
        while true {
            elements.append(try parseValue())
            skipSpace()
            if skip("]") { return .array(elements) }
            guard skip(",") else { throw failure("\",\" or \"]\"") }
            skipSpace()
        }
    }

    mutating func skip(_ character: Unicode.Scalar) -> Bool {
        guard let current, current == UInt8(ascii: character) else { return false }
        position += 1
        return true
    }

    mutating func parseLiteral(_ text: StaticString, _ value: JSONValue) throws(JSONError)
        -> JSONValue
    {
        let end = position + text.utf8CodeUnitCount
        let literal = UnsafeBufferPointer(start: text.utf8Start, count: text.utf8CodeUnitCount)
        guard end <= bytes.count, bytes[position..<end].elementsEqual(literal) else {
            throw failure("a value")
        }
        position = end
        return value
    }
}

// MARK: Numbers

extension JSONParser {
    mutating func parseNumber() throws(JSONError) -> JSONValue {
        let start = position
        let isNegative = skip("-")
        let digits = position
        var value = 0
        var isInteger = true
        while let digit = currentDigit {
            let (product, productOverflows) = value.multipliedReportingOverflow(by: 10)
            let (sum, sumOverflows) = product.subtractingReportingOverflow(digit)
            value = sum
            if productOverflows || sumOverflows { isInteger = false }
            position += 1
        }
        guard position > digits else { throw failure("a digit") }
        if bytes[digits] == UInt8(ascii: "0"), position > digits + 1 {
            position = digits + 1
            throw failure("no digit after a leading zero")
        }
        if skip(".") {
            isInteger = false
            try skipDigits()
        }
        if current == UInt8(ascii: "e") || current == UInt8(ascii: "E") {
            isInteger = false
            position += 1
            if !skip("+") { _ = skip("-") }
            try skipDigits()
        }
        // Collected as a negative number, so that Int.min is an integer too.
        if isInteger, isNegative || value != Int.min { return .int(isNegative ? value : -value) }
        let text = String(decoding: bytes[start..<position], as: UTF8.self)
        guard let double = Double(text) else {
            position = start
            throw failure("a number")
        }
        return .double(double)
    }

    func isDigit(_ byte: UInt8) -> Bool {
        byte >= UInt8(ascii: "0") && byte <= UInt8(ascii: "9")
    }

    private var currentDigit: Int? {
        guard let current, isDigit(current) else { return nil }
        return Int(current - UInt8(ascii: "0"))
    }

    private mutating func skipDigits() throws(JSONError) {
        guard currentDigit != nil else { throw failure("a digit") }
        while currentDigit != nil { position += 1 }
    }
}

// MARK: Strings

extension JSONParser {
    mutating func parseString() throws(JSONError) -> String {
        let opening = position
        position += 1
        let start = position
        try skipPlainCharacters(from: opening)
        let first = try text(start..<position)
        if skip("\"") { return first }
        var result = first
        while true {
            if skip("\"") { return result }
            if skip("\\") {
                result.unicodeScalars.append(try parseEscape())
            } else {
                let start = position
                try skipPlainCharacters(from: opening)
                result += try text(start..<position)
            }
        }
    }

    /// Moves to the next quote or backslash.
    private mutating func skipPlainCharacters(from opening: Int) throws(JSONError) {
        while position < bytes.count {
            switch bytes[position] {
            case UInt8(ascii: "\""), UInt8(ascii: "\\"): return
            case 0..<0x20: throw failure("an escape sequence for a control character")
            default: position += 1
            }
        }
        position = opening
        throw failure(
            "a closing quote for the string that starts here", found: "the end of the text")
    }

    private mutating func text(_ range: Range<Int>) throws(JSONError) -> String {
        if let text = String(validating: bytes[range], as: UTF8.self) { return text }
        // The first bad byte is where lossy decoding departs from the bytes.
        let lossy = String(decoding: bytes[range], as: UTF8.self).utf8
        let numGood = zip(lossy, bytes[range]).prefix { $0 == $1 }.count
        position = range.lowerBound + numGood
        throw failure("valid UTF-8")
    }

    private mutating func parseEscape() throws(JSONError) -> Unicode.Scalar {
        let start = position - 1
        guard let kind = current else { throw failure("an escape sequence") }
        position += 1
        switch kind {
        case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): return Unicode.Scalar(kind)
        case UInt8(ascii: "b"): return "\u{8}"
        case UInt8(ascii: "f"): return "\u{C}"
        case UInt8(ascii: "n"): return "\n"
        case UInt8(ascii: "r"): return "\r"
        case UInt8(ascii: "t"): return "\t"
        case UInt8(ascii: "u"): return try parseUnicodeEscape()
        default:
            position = start
            throw failure("an escape sequence of JSON")
        }
    }

    private mutating func parseUnicodeEscape() throws(JSONError) -> Unicode.Scalar {
        let unit = try parseHexadecimal()
        guard unit >> 10 == 0b110110 else { return Unicode.Scalar(unit) ?? "\u{FFFD}" }
        let afterHigh = position
        if skip("\\"), skip("u") {
            let low = try parseHexadecimal()
            if low >> 10 == 0b110111 {
                let value = 0x10000 + ((unit & 0x3FF) << 10 | low & 0x3FF)
                return Unicode.Scalar(value) ?? "\u{FFFD}"
            }
        }
        position = afterHigh
        return "\u{FFFD}"
    }

    private mutating func parseHexadecimal() throws(JSONError) -> UInt32 {
        var value: UInt32 = 0
        for _ in 0..<4 {
            guard let current, let digit = Character(Unicode.Scalar(current)).hexDigitValue else {
                throw failure("four hexadecimal digits")
            }
            value = value << 4 | UInt32(digit)
            position += 1
        }
        return value
    }
}

// MARK: Errors

extension JSONParser {
    func failure(_ expected: String, found: String? = nil) -> JSONError {
        let before = bytes[..<min(position, bytes.count)]
        let lineStart = before.lastIndex(of: 0x0A).map { $0 + 1 } ?? 0
        return JSONError(
            line: 1 + before.count { $0 == 0x0A },
            column: 1 + before[lineStart...].count { $0 & 0xC0 != 0x80 },
            expected: expected, found: found ?? description(at: position))
    }

    private func description(at position: Int) -> String {
        guard position < bytes.count else { return "the end of the text" }
        let rest = bytes[position..<min(position + 4, bytes.count)]
        let scalar = String(decoding: rest, as: UTF8.self).unicodeScalars.first ?? "\u{FFFD}"
        if scalar == "\u{FFFD}", rest.first != 0xEF {
            return "the byte 0x" + String(bytes[position], radix: 16, uppercase: true)
        }
        if scalar.value < 0x20 || scalar.value == 0x7F {
            return "U+" + String(format: "%04X", scalar.value)
        }
        return "\"\(scalar)\""
    }
}
