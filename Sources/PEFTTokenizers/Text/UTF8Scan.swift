/// Steps through valid UTF-8 bytes, scalar by scalar.
package enum UTF8Scan {
    /// The number of bytes of the scalar that starts with `lead`.
    @inline(__always)
    package static func length(_ lead: UInt8) -> Int {
        if lead < 0x80 { return 1 }
        if lead < 0xE0 { return 2 }
        return lead < 0xF0 ? 3 : 4
    }

    /// Whether `byte` continues a scalar.
    @inline(__always)
    package static func isContinuation(_ byte: UInt8) -> Bool { byte & 0xC0 == 0x80 }

    /// The scalar value that starts at `position`, and its number of bytes.
    @inline(__always)
    package static func decode(
        _ bytes: UnsafeBufferPointer<UInt8>, at position: Int
    ) -> (value: UInt32, length: Int) {
        let lead = UInt32(bytes[position])
        if lead < 0x80 { return (lead, 1) }
        let second = UInt32(bytes[position + 1]) & 0x3F
        if lead < 0xE0 { return ((lead & 0x1F) << 6 | second, 2) }
        let third = UInt32(bytes[position + 2]) & 0x3F
        if lead < 0xF0 { return ((lead & 0x0F) << 12 | second << 6 | third, 3) }
        let fourth = UInt32(bytes[position + 3]) & 0x3F
        return ((lead & 0x07) << 18 | second << 12 | third << 6 | fourth, 4)
    }

    /// The start of the scalar that ends before `position`.
    @inline(__always)
    package static func previous(
        _ bytes: UnsafeBufferPointer<UInt8>, before position: Int
    ) -> Int {
        var start = position - 1
        while start > 0, isContinuation(bytes[start]) { start -= 1 }
        return start
    }

    /// Appends the UTF-8 form of a scalar.
    @inline(__always)
    package static func append(_ scalar: Unicode.Scalar, to bytes: inout [UInt8]) {
        if scalar.value < 0x80 {
            bytes.append(UInt8(truncatingIfNeeded: scalar.value))
        } else {
            bytes.append(contentsOf: UTF8.encode(scalar).unsafelyUnwrapped)
        }
    }
}

/// Character classes as Rust's `char` methods and `regex` crate define them, by Swift's Unicode data.
package enum ScalarClass {
    /// Whether the scalar has the property White_Space.
    @inline(__always)
    package static func isWhitespace(_ value: UInt32) -> Bool {
        if value < 0x80 { return value == 0x20 || (value >= 9 && value <= 13) }
        return Unicode.Scalar(value)?.properties.isWhitespace ?? false
    }

    /// Whether the scalar is a decimal, letter-like or other number (Nd, Nl, No).
    @inline(__always)
    package static func isNumeric(_ value: UInt32) -> Bool {
        if value < 0x80 { return value >= 0x30 && value <= 0x39 }
        switch Unicode.Scalar(value)?.properties.generalCategory {
        case .decimalNumber, .letterNumber, .otherNumber: return true
        default: return false
        }
    }

    /// Whether the scalar is in `\w`: alphabetic, mark, decimal number, connector, join control.
    package static func isWord(_ value: UInt32) -> Bool {
        guard let properties = Unicode.Scalar(value)?.properties else { return false }
        switch properties.generalCategory {
        case .decimalNumber, .connectorPunctuation, .nonspacingMark, .spacingMark, .enclosingMark:
            return true
        default:
            return properties.isAlphabetic || properties.isJoinControl
        }
    }

    /// Whether the scalar is punctuation of ASCII or of the categories P of Unicode 8, the data that
    /// the stages for BERT have in `tokenizers`.
    package static func isPunctuation(_ value: UInt32) -> Bool {
        if value < 0x80 {
            switch value {
            case 0x21...0x2F, 0x3A...0x40, 0x5B...0x60, 0x7B...0x7E: return true
            default: return false
            }
        }
        // Punctuation then: the one became a symbol, the other a mark.
        if value == 0x166D || value == 0x1_11C9 { return true }
        guard let scalar = Unicode.Scalar(value), isKnown(scalar, in: 8) else { return false }
        switch scalar.properties.generalCategory {
        case .connectorPunctuation, .dashPunctuation, .openPunctuation, .closePunctuation,
            .initialPunctuation, .finalPunctuation, .otherPunctuation:
            return true
        default: return false
        }
    }

    /// Whether the scalar is a control, a format or a private character of Unicode 8.
    package static func isOther(_ scalar: Unicode.Scalar) -> Bool {
        switch scalar.properties.generalCategory {
        case .control, .privateUse: true
        case .format: isKnown(scalar, in: 8)
        default: false
        }
    }

    /// Whether the scalar is a mark without width of its own of Unicode 8.
    package static func isNonspacingMark(_ scalar: Unicode.Scalar) -> Bool {
        switch scalar.value {
        // Of width now.
        case 0x1734, 0x1_171E: true
        // Of other categories then.
        case 0x1885, 0x1886, 0xA9BD, 0x1_11C9: false
        default:
            scalar.properties.generalCategory == .nonspacingMark && isKnown(scalar, in: 8)
        }
    }

    /// Whether the scalar is one of the given version of Unicode.
    package static func isKnown(_ scalar: Unicode.Scalar, in version: Int) -> Bool {
        scalar.properties.age.map { $0.major <= version } ?? false
    }
}
