import Foundation

/// SentencePiece's table of replacements, compiled to a double array.
///
/// The text is taken character by character as Unicode segments it; one of at most five bytes is
/// looked up whole, otherwise scalar by scalar. As in `tokenizers`, the shortest entry that the
/// characters begin with replaces all of them.
///
/// - Source: `google/sentencepiece src/normalizer.cc`; results are those of `tokenizers` 0.23
///   `normalizers/precompiled.rs` and of its crate `spm_precompiled`.
package struct PrecompiledNormalizer: Normalizer {
    /// The units of the double array.
    private let units: [UInt32]
    /// The replacements, each ended by a zero byte.
    private let replacements: [UInt8]

    /// Longer characters are looked up scalar by scalar.
    private static let maximumLength = 5

    /// Reads `precompiled_charsmap`: in base64 the size of the double array, its units of 32 bits,
    /// the replacements; null or empty replaces nothing.
    package init(_ reader: StageReader) throws(TokenizerError) {
        guard let member = reader.member("precompiled_charsmap"), !(try member.string()).isEmpty
        else {
            units = []
            replacements = []
            return
        }
        guard let data = Data(base64Encoded: try member.string()) else {
            throw member.mismatch("base64", found: "other text")
        }
        let bytes = Array(data)
        func word(_ index: Int) -> UInt32 {
            (0..<4).reduce(0) { $0 | UInt32(bytes[index + $1]) << (8 * UInt32($1)) }
        }
        guard bytes.count >= 4, word(0) % 4 == 0, Int(word(0)) <= bytes.count - 4 else {
            throw member.mismatch(
                "the size of a double array and the array", found: "\(bytes.count) bytes")
        }
        let end = 4 + Int(word(0))
        units = stride(from: 4, to: end, by: 4).map(word)
        replacements = Array(bytes[end...])
    }

    /// Replaces.
    package func normalize(_ text: inout AlignedText) {
        guard !units.isEmpty else { return }
        var changes: [(scalar: Unicode.Scalar, count: Int)] = []
        var isChanged = false
        func replace(_ count: Int, with replacement: String.UnicodeScalarView) {
            isChanged = true
            for (index, scalar) in replacement.enumerated() {
                changes.append((scalar, index < count ? 0 : 1))
            }
            let numRemoved = count - replacement.count
            if numRemoved > 0, let last = changes.indices.last { changes[last].count -= numRemoved }
        }
        for character in String(decoding: text.bytes, as: UTF8.self) {
            let scalars = character.unicodeScalars
            if character.utf8.count <= Self.maximumLength,
                let found = replacement(of: character.utf8)
            {
                replace(scalars.count, with: found)
                continue
            }
            for scalar in scalars {
                if let found = replacement(of: UTF8.encode(scalar).map(Array.init) ?? []) {
                    replace(1, with: found)
                } else {
                    changes.append((scalar, 0))
                }
            }
        }
        if isChanged { text.transform(changes.map { AlignedText.Change($0.scalar, $0.count) }) }
    }

    /// The replacement of the shortest entry that `key` begins with.
    private func replacement(of key: some Sequence<UInt8>) -> String.UnicodeScalarView? {
        var position = offset(units[0])
        for byte in key {
            if byte == 0 { return nil }
            position ^= Int(byte)
            guard position < units.count else { return nil }
            let unit = units[position]
            guard unit & (1 << 31 | 0xFF) == UInt32(byte) else { return nil }
            position ^= offset(unit)
            guard unit >> 8 & 1 == 1 else { continue }
            guard position < units.count else { return nil }
            let start = Int(units[position] & (1 << 31 - 1))
            guard start <= replacements.count else { return nil }
            let text = replacements[start...].prefix { $0 != 0 }
            return String(decoding: text, as: UTF8.self).unicodeScalars
        }
        return nil
    }

    private func offset(_ unit: UInt32) -> Int { Int(unit >> 10) << Int((unit & (1 << 9)) >> 6) }
}
