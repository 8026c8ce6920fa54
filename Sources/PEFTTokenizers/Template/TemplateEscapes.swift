/// The escape sequences of string literals: Python's `unicode-escape` codec.
enum TemplateEscapes {
    private static let simple: [Unicode.Scalar: Unicode.Scalar] = [
        "n": "\n", "t": "\t", "r": "\r", "a": "\u{7}", "b": "\u{8}", "f": "\u{C}", "v": "\u{B}",
        "\\": "\\", "'": "'", "\"": "\"",
    ]

    /// The text that the body of a literal stands for.
    ///
    /// Unknown escapes stay as they are. As in Jinja2, characters outside ASCII are escaped first,
    /// so a backslash before `é` yields `\xe9`.
    static func resolve(
        _ body: some Collection<Unicode.Scalar>
    ) throws(TemplateError) -> String {
        var result = String.UnicodeScalarView()
        var rest = body.map { $0 }[...]
        while let scalar = rest.popFirst() {
            guard scalar == "\\", let mark = rest.popFirst() else {
                result.append(scalar)
                continue
            }
            if let plain = simple[mark] {
                result.append(plain)
            } else if mark == "x" || mark == "u" || mark == "U" {
                result.append(try takeHexadecimal(mark, &rest))
            } else if ("0"..."7").contains(mark) {
                result.append(takeOctal(mark, &rest))
            } else if mark == "N" {
                throw TemplateError(
                    .unsupported, "the escape \\N{...} of a character's name is not supported")
            } else if mark != "\n" {
                result.append("\\")
                if mark.isASCII {
                    result.append(mark)
                } else {
                    result.append(contentsOf: mark.pythonEscape.unicodeScalars.dropFirst())
                }
            }
        }
        return String(result)
    }

    private static func takeHexadecimal(
        _ mark: Unicode.Scalar, _ rest: inout ArraySlice<Unicode.Scalar>
    ) throws(TemplateError) -> Unicode.Scalar {
        let numDigits = mark == "x" ? 2 : mark == "u" ? 4 : 8
        let digits = String(rest.prefix(numDigits))
        guard digits.utf8.count == numDigits, digits.allSatisfy(\.isHexDigit),
            let value = UInt32(digits, radix: 16)
        else {
            throw TemplateError(
                .syntax,
                "expected \(numDigits) hexadecimal digits after \\\(mark), found '\(digits)'")
        }
        rest = rest.dropFirst(numDigits)
        guard let scalar = Unicode.Scalar(value) else {
            throw TemplateError(
                .unsupported, "\\\(mark)\(digits) is not a Unicode scalar (a lone surrogate?)")
        }
        return scalar
    }

    private static func takeOctal(
        _ first: Unicode.Scalar, _ rest: inout ArraySlice<Unicode.Scalar>
    ) -> Unicode.Scalar {
        var value = first.value - 48
        for _ in 0..<2 {
            guard let next = rest.first, ("0"..."7").contains(next) else { break }
            value = value * 8 + next.value - 48
            rest.removeFirst()
        }
        return Unicode.Scalar(value) ?? "\u{FFFD}"
    }
}
