/// GPT-2's printable alphabet: one visible character for each of the 256 byte values.
///
/// - Source: `openai/gpt-2 src/encoder.py:bytes_to_unicode`.
package enum ByteAlphabet {
    /// The character of each byte value.
    package static let scalars: [Unicode.Scalar] = {
        var next: UInt32 = 256
        return (0...255).map { (byte: UInt32) in
            switch byte {
            case 0x21...0x7E, 0xA1...0xAC, 0xAE...0xFF:
                return Unicode.Scalar(UInt8(byte))
            default:
                defer { next += 1 }
                return Unicode.Scalar(next) ?? " "
            }
        }
    }()

    /// The UTF-8 form of each byte value's character.
    package static let encoded: [[UInt8]] = scalars.map { Array(String($0).utf8) }

    /// The byte value of each character, by the character's scalar value; -1 if it is none.
    private static let bytes: [Int16] = {
        var table = [Int16](repeating: -1, count: 512)
        for (byte, scalar) in scalars.enumerated() { table[Int(scalar.value)] = Int16(byte) }
        return table
    }()

    /// The byte that `scalar` stands for, or nil if it is no character of the alphabet.
    package static func byte(of scalar: Unicode.Scalar) -> UInt8? {
        guard scalar.value < 512, bytes[Int(scalar.value)] >= 0 else { return nil }
        return UInt8(bytes[Int(scalar.value)])
    }

    /// The bytes that `token` spells, or nil if it uses a character outside the alphabet.
    package static func bytes(of token: String) -> [UInt8]? {
        var result: [UInt8] = []
        result.reserveCapacity(token.utf8.count)
        for scalar in token.unicodeScalars {
            guard let byte = byte(of: scalar) else { return nil }
            result.append(byte)
        }
        return result
    }

    /// The text that spells `bytes` in the alphabet.
    package static func spell(_ bytes: some Sequence<UInt8>) -> [UInt8] {
        var result: [UInt8] = []
        for byte in bytes { result.append(contentsOf: encoded[Int(byte)]) }
        return result
    }
}
