import Foundation

/// Python's conversions between numbers and text.
enum PythonNumber {
    /// Python's `int(text, base)`; nil where it raises ValueError.
    static func integer(_ text: String, base: Int) throws(TemplateError) -> Int? {
        var digits = text.pythonStripped().withPlainDigits[...]
        let isNegative = digits.hasPrefix("-")
        if isNegative || digits.hasPrefix("+") { digits = digits.dropFirst() }
        var base = base
        let prefixes = ["0b": 2, "0o": 8, "0x": 16]
        var hadPrefix = false
        if let radix = prefixes[digits.prefix(2).lowercased()], base == 0 || base == radix {
            digits = digits.dropFirst(2)
            base = radix
            hadPrefix = true
            if digits.hasPrefix("_") { digits = digits.dropFirst() }
        }
        if base == 0 {
            base = 10
            if digits.hasPrefix("0"), !digits.allSatisfy({ $0 == "0" || $0 == "_" }) { return nil }
        }
        guard (2...36).contains(base) else { return nil }
        guard let plain = removingSeparators(digits), !plain.isEmpty || !hadPrefix,
            !plain.isEmpty, plain.utf8.allSatisfy({ isDigit($0, base: base) })
        else { return nil }
        guard let value = Int((isNegative ? "-" : "") + plain, radix: base) else {
            throw TemplateError(.unsupported, "the integer \(text) does not fit into 64 bits")
        }
        return value
    }

    private static func isDigit(_ byte: UInt8, base: Int) -> Bool {
        Character(Unicode.Scalar(byte)).isASCII
            && Int(String(Unicode.Scalar(byte)), radix: base) != nil
            && byte != UInt8(ascii: "-") && byte != UInt8(ascii: "+")
    }

    /// The digits without single underscores between them; nil if one stands elsewhere.
    private static func removingSeparators(_ text: Substring) -> String? {
        guard text.contains("_") else { return String(text) }
        if text.hasPrefix("_") || text.hasSuffix("_") || text.contains("__") { return nil }
        return text.filter { $0 != "_" }
    }

    /// Python's `float(text)`; nil where it raises ValueError.
    static func double(_ text: String) -> Double? {
        let text = text.pythonStripped().withPlainDigits.lowercased()
        guard let plain = removingSeparators(text[...]) else { return nil }
        let unsigned = plain.drop { $0 == "+" || $0 == "-" }
        guard plain.count - unsigned.count <= 1 else { return nil }
        let sign = plain.hasPrefix("-") ? -1.0 : 1.0
        switch unsigned {
        case "inf", "infinity": return sign * .infinity
        case "nan": return .nan
        default:
            let allowed = unsigned.utf8.allSatisfy {
                ($0 >= 0x30 && $0 <= 0x39) || $0 == 0x2E || $0 == 0x65 || $0 == 0x2B || $0 == 0x2D
            }
            guard allowed, unsigned.contains(where: \.isNumber) else { return nil }
            // Swift asks for a digit on both sides of the point, Python does not.
            let padded = unsigned.hasPrefix(".") ? "0" + unsigned : String(unsigned)
            let closed = padded.replacingOccurrences(of: ".e", with: ".0e")
            return Double(closed.hasSuffix(".") ? closed + "0" : closed).map { sign * $0 }
        }
    }

    /// Python's `int(value)` of a floating-point number.
    static func integer(_ value: Double) throws(TemplateError) -> Int {
        guard value.isFinite else {
            throw TemplateError(.value, "cannot convert float \(value) to integer")
        }
        guard let result = Int(exactly: value.rounded(.towardZero)) else {
            throw TemplateError(.unsupported, "the integer \(value) does not fit into 64 bits")
        }
        return result
    }

    /// Python's `round(value, digits)`: correctly rounded, ties to even.
    static func rounded(_ value: Double, digits: Int) -> Double {
        guard value.isFinite, digits <= 308 else { return value }
        if digits >= 0 { return Double(String(format: "%.\(digits)f", value)) ?? value }
        guard digits >= -308 else { return value < 0 ? -0.0 : 0 }
        let scale = pow(10, Double(-digits))
        return (value / scale).rounded(.toNearestOrEven) * scale
    }

    /// Python's `round(value, digits)` of an integer.
    static func rounded(_ value: Int, digits: Int) -> Int {
        guard digits < 0 else { return value }
        guard digits > -19 else { return 0 }
        var scale = 1
        for _ in 0..<(-digits) { scale *= 10 }
        let remainder = ((value % scale) + scale) % scale
        let floor = value - remainder
        let isUp = remainder * 2 > scale || (remainder * 2 == scale && (floor / scale) % 2 != 0)
        return isUp ? floor + scale : floor
    }
}

extension String {
    /// The text with the decimal digits of all scripts as ASCII digits.
    fileprivate var withPlainDigits: String {
        if utf8.allSatisfy({ $0 < 0x80 }) { return self }
        return unicodeScalars.reduce(into: "") { result, scalar in
            let properties = scalar.properties
            if properties.numericType == .decimal, let value = properties.numericValue {
                result += String(Int(value))
            } else {
                result.unicodeScalars.append(scalar)
            }
        }
    }
}
