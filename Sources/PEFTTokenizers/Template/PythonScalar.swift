extension Unicode.Scalar {
    /// Whether `str.isspace` holds, which is also what `\s` matches.
    var isPythonSpace: Bool {
        switch value {
        case 0x09...0x0D, 0x1C...0x20, 0x85, 0xA0, 0x1680, 0x2000...0x200A, 0x2028, 0x2029, 0x202F,
            0x205F, 0x3000:
            true
        default: false
        }
    }

    /// Whether `str.splitlines` ends a line here.
    var isPythonLineEnd: Bool {
        switch value {
        case 0x0A...0x0D, 0x1C...0x1E, 0x85, 0x2028, 0x2029: true
        default: false
        }
    }

    /// Whether this is an ASCII digit.
    var isPythonDigit: Bool { value >= 0x30 && value <= 0x39 }

    /// Whether `str.isalnum` holds.
    var isPythonAlphanumeric: Bool { isPythonAlphabetic || properties.numericType != nil }

    /// Whether `str.isalpha` holds: the general category is a letter.
    var isPythonAlphabetic: Bool {
        switch properties.generalCategory {
        case .uppercaseLetter, .lowercaseLetter, .titlecaseLetter, .modifierLetter, .otherLetter:
            true
        default: false
        }
    }

    /// Whether `\w` matches.
    var isWordPart: Bool { self == "_" || isPythonAlphanumeric }

    /// Whether the scalar may stand inside an identifier.
    var isIdentifierPart: Bool {
        isASCII ? isWordPart : properties.isIDContinue || isWordPart
    }

    /// Whether `str.isprintable` holds: `repr` does not escape the scalar.
    var isPythonPrintable: Bool {
        if isASCII { return value >= 0x20 && value < 0x7F }
        switch properties.generalCategory {
        case .control, .format, .surrogate, .privateUse, .unassigned, .lineSeparator,
            .paragraphSeparator, .spaceSeparator:
            return false
        default: return true
        }
    }

    /// The lower-case letter for an ASCII capital, anything else unchanged.
    var lowercasedASCII: Unicode.Scalar {
        value >= 0x41 && value <= 0x5A ? Unicode.Scalar(UInt8(value + 0x20)) : self
    }

    /// The shortest of `\xhh`, `\uhhhh` and `\Uhhhhhhhh`.
    var pythonEscape: String {
        let digits = String(value, radix: 16)
        let (mark, width) = value < 0x100 ? ("x", 2) : value < 0x10000 ? ("u", 4) : ("U", 8)
        return "\\" + mark + String(repeating: "0", count: width - digits.count) + digits
    }
}

extension String {
    /// Makes a string of scalars.
    init(_ scalars: some Sequence<Unicode.Scalar>) {
        var view = String.UnicodeScalarView()
        view.append(contentsOf: scalars)
        self.init(view)
    }
}
