import Foundation

/// How one value is laid out: width, alignment, sign, precision and type.
///
/// Both `%` formatting and `str.format` are brought to this form.
struct PythonFormatSpec {
    /// What fills the field up to its width.
    var fill: Unicode.Scalar = " "
    /// `<`, `>`, `^` or `=`; nil takes the type's own.
    var alignment: Unicode.Scalar?
    /// `+`, `-` or a space; nil is like `-`.
    var sign: Unicode.Scalar?
    /// Whether radix prefixes and decimal points are always shown.
    var isAlternate = false
    /// The least number of scalars.
    var width = 0
    /// What separates thousands, if anything.
    var separator: Unicode.Scalar?
    /// Digits behind the point, significant digits, or the longest string.
    var precision: Int?
    /// The presentation type.
    var type: Unicode.Scalar?

    /// Parses `[[fill]align][sign][#][0][width][,][.precision][type]`.
    init(parsing text: String) throws(TemplateError) {
        var rest = Array(text.unicodeScalars)[...]
        let alignments: Set<Unicode.Scalar> = ["<", ">", "^", "="]
        if rest.count > 1, alignments.contains(rest[rest.startIndex + 1]) {
            fill = rest.removeFirst()
            alignment = rest.removeFirst()
        } else if let first = rest.first, alignments.contains(first) {
            alignment = rest.removeFirst()
        }
        if let first = rest.first, ["+", "-", " "].contains(first) { sign = rest.removeFirst() }
        if rest.first == "#" {
            isAlternate = true
            rest.removeFirst()
        }
        if rest.first == "0", alignment == nil {
            (fill, alignment) = ("0", "=")
        }
        width = try Self.takeNumber(&rest) ?? 0
        if rest.first == "," || rest.first == "_" { separator = rest.removeFirst() }
        if rest.first == "." {
            rest.removeFirst()
            precision = try Self.takeNumber(&rest)
            if precision == nil {
                throw TemplateError(.value, "format specifier '\(text)' lacks its precision")
            }
        }
        type = rest.popFirst()
        if !rest.isEmpty { throw TemplateError(.value, "invalid format specifier '\(text)'") }
    }

    /// Makes a specification without any demand.
    init() {}

    // MARK: What `str.format` allows

    /// Whether a string can be laid out so.
    var fitsText: Bool {
        (type == nil || type == "s") && sign == nil && separator == nil && !isAlternate
            && alignment != "="
    }

    /// Whether an integer can be laid out so, as an integer.
    var fitsInteger: Bool {
        guard precision == nil else { return false }
        switch type {
        case nil, "d": return true
        case "n", "b", "o", "x", "X": return separator == nil
        case "c": return separator == nil && sign == nil && !isAlternate
        default: return false
        }
    }

    /// Whether a number can be laid out so, as floating point.
    var fitsDouble: Bool {
        switch type {
        case nil, "e", "E", "f", "F", "g", "G", "%": return true
        case "n": return separator == nil
        default: return false
        }
    }

    private static func takeNumber(
        _ rest: inout ArraySlice<Unicode.Scalar>
    ) throws(TemplateError) -> Int? {
        let digits = rest.prefix { $0.isPythonDigit }
        if digits.isEmpty { return nil }
        rest = rest.dropFirst(digits.count)
        guard let value = Int(String(digits)), value <= 1 << 20 else {
            throw TemplateError(.value, "the format width \(String(digits)) is too large")
        }
        return value
    }

    // MARK: Layout

    private var positiveSign: String {
        sign == "+" ? "+" : sign == " " ? " " : ""
    }

    /// Lays out a string.
    func format(_ text: String) -> String {
        let cut = precision.map { String(text.unicodeScalars.prefix($0)) } ?? text
        return pad(sign: "", cut, defaultAlignment: "<")
    }

    /// Lays out an integer as type d, b, o, x, X or c.
    func format(_ value: Int) throws(TemplateError) -> String {
        let magnitude = value.magnitude
        let prefix = value < 0 ? "-" : positiveSign
        switch type {
        case nil, "d", "n", "i", "u":
            return pad(sign: prefix, zeroExtended(grouped(String(magnitude))))
        case "b", "o", "x", "X":
            let radix = type == "b" ? 2 : type == "o" ? 8 : 16
            let digits = String(magnitude, radix: radix, uppercase: type == "X")
            let mark = isAlternate ? "0" + (type.map { String($0) } ?? "") : ""
            return pad(sign: prefix + mark, zeroExtended(digits))
        case "c":
            guard let value = UInt32(exactly: value), let scalar = Unicode.Scalar(value) else {
                throw TemplateError(.value, "\(value) is not a character")
            }
            return pad(sign: "", String(scalar), defaultAlignment: "<")
        default:
            return try format(Double(value))
        }
    }

    private func zeroExtended(_ digits: String) -> String {
        // Only % formatting gives integers a precision: the least number of digits.
        String(repeating: "0", count: max(0, (precision ?? 0) - digits.utf8.count)) + digits
    }

    /// Lays out a floating-point number.
    func format(_ value: Double) throws(TemplateError) -> String {
        let prefix =
            value.sign == .minus && !value.isNaN ? "-" : positiveSign
        let type = type ?? "\0"
        var digits: String
        switch type {
        case "e", "E", "f", "F", "g", "G":
            digits = Self.printf(value.magnitude, type, precision ?? 6, isAlternate)
        case "n":
            digits = Self.printf(value.magnitude, "g", precision ?? 6, isAlternate)
        case "%":
            digits = Self.printf(value.magnitude * 100, "f", precision ?? 6, isAlternate) + "%"
        case "\0":
            digits = value.magnitude.pythonRepresentation
            if let precision {
                digits = Self.printf(value.magnitude, "g", max(1, precision), isAlternate)
                if !digits.contains(where: { $0 == "." || $0 == "e" }) { digits += ".0" }
            }
        default:
            throw TemplateError(
                .value, "unknown format code '\(type)' for an object of type 'float'")
        }
        return pad(sign: prefix, grouped(digits))
    }

    private static func printf(
        _ value: Double, _ type: Unicode.Scalar, _ precision: Int, _ isAlternate: Bool
    ) -> String {
        if !value.isFinite {
            let text = value.isNaN ? "nan" : "inf"
            return type.properties.isUppercase ? text.uppercased() : text
        }
        return String(format: "%" + (isAlternate ? "#" : "") + ".\(precision)\(type)", value)
    }

    private func grouped(_ digits: String) -> String {
        guard let separator else { return digits }
        let whole = digits.prefix { $0.isNumber }
        var result = ""
        for (index, digit) in whole.enumerated() {
            if index > 0, (whole.count - index) % 3 == 0 { result.unicodeScalars.append(separator) }
            result.append(digit)
        }
        return result + digits.dropFirst(whole.count)
    }

    private func pad(
        sign: String, _ body: String, defaultAlignment: Unicode.Scalar = ">"
    ) -> String {
        let missing = width - sign.unicodeScalars.count - body.unicodeScalars.count
        guard missing > 0 else { return sign + body }
        func filling(_ count: Int) -> String { String(repeating: String(fill), count: count) }
        switch alignment ?? defaultAlignment {
        case "<": return sign + body + filling(missing)
        case "^": return filling(missing / 2) + sign + body + filling(missing - missing / 2)
        case "=": return sign + filling(missing) + body
        default: return filling(missing) + sign + body
        }
    }
}
