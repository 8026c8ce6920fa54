extension Double {
    /// The number as Python's `repr` writes it: the fewest digits that read back as the same value.
    ///
    /// Decimal exponents from -4 to 15 are written out, all others as `1e-05` or `1e+16`.
    package var pythonRepresentation: String {
        if isNaN { return "nan" }
        if isInfinite { return self < 0 ? "-inf" : "inf" }
        let sign = self.sign == .minus ? "-" : ""
        if self == 0 { return sign + "0.0" }
        // Swift prints the same digits and differs only in where the exponent form starts.
        let parts = magnitude.description.split(separator: "e")
        let mantissa = parts[0].split(separator: ".")
        let fraction = mantissa.count > 1 && mantissa[1] != "0" ? mantissa[1] : ""
        let leading = mantissa[0] == "0" ? "" : mantissa[0]
        var digits = String(leading + fraction)
        var exponent = leading.count - 1 + (parts.count > 1 ? Int(parts[1]) ?? 0 : 0)
        let significant = digits.drop { $0 == "0" }
        exponent -= digits.count - significant.count
        digits = String(significant)
        while digits.count > 1, digits.last == "0" { digits.removeLast() }
        return sign + Self.layOut(digits, exponent: exponent)
    }

    /// Places the point, `digits` being `d.ddd` times ten to the power of `exponent`.
    private static func layOut(_ digits: String, exponent: Int) -> String {
        switch exponent {
        case -4..<0:
            return "0." + String(repeating: "0", count: -exponent - 1) + digits
        case 0..<16:
            guard digits.count > exponent + 1 else {
                return digits + String(repeating: "0", count: exponent + 1 - digits.count) + ".0"
            }
            return digits.prefix(exponent + 1) + "." + digits.dropFirst(exponent + 1)
        default:
            let mantissa = digits.prefix(1) + (digits.count > 1 ? "." + digits.dropFirst() : "")
            let size = String(exponent.magnitude)
            return mantissa + (exponent < 0 ? "e-" : "e+") + (size.count < 2 ? "0" : "") + size
        }
    }
}
