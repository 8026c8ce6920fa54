/// Removes white space at the ends of the text.
package struct StripNormalizer: Normalizer {
    /// Whether the start is stripped.
    package let stripsLeft: Bool
    /// Whether the end is stripped.
    package let stripsRight: Bool

    /// Strips.
    package func normalize(_ text: inout AlignedText) {
        let scalars = Array(text.scalars)
        func isSpace(_ scalar: Unicode.Scalar) -> Bool { ScalarClass.isWhitespace(scalar.value) }
        let left = stripsLeft ? scalars.prefix(while: isSpace).count : 0
        let right = stripsRight ? scalars.reversed().prefix(while: isSpace).count : 0
        guard left + right > 0 else { return }
        let kept = left < scalars.count - right ? scalars[left..<scalars.count - right] : []
        text.transform(
            text.bytes.indices, kept.map { AlignedText.Change($0, 0) },
            afterRemoving: kept.isEmpty ? 0 : left)
    }
}

/// Removes marks that combine with the character before them; it does not decompose characters.
package struct StripAccentsNormalizer: Normalizer {
    /// Removes.
    package func normalize(_ text: inout AlignedText) {
        text.filter { !UnicodeNormalizer.isCombiningMark($0) }
    }
}

/// SentencePiece's rules of white space and control characters, as its `nmt_` normalizations have them.
package struct NmtNormalizer: Normalizer {
    /// Removes control characters and turns unusual spaces and line ends into spaces.
    package func normalize(_ text: inout AlignedText) {
        text.filter { scalar in
            switch scalar.value {
            case 0x01...0x08, 0x0B, 0x0E...0x1F, 0x7F, 0x8F, 0x9F: false
            default: true
            }
        }
        text.map { scalar in
            switch scalar.value {
            case 0x09, 0x0A, 0x0C, 0x0D, 0x1680, 0x200B...0x200F, 0x2028, 0x2029, 0x2581, 0xFEFF,
                0xFFFD:
                " "
            default: scalar
            }
        }
    }
}

/// Spells each byte in the byte alphabet before the text is cut.
package struct ByteLevelNormalizer: Normalizer {
    /// Spells.
    package func normalize(_ text: inout AlignedText) { text.spellBytes() }
}

/// BERT's cleaning: control characters, Chinese characters, accents, case.
///
/// - Source: `google-research/bert tokenization.py:BasicTokenizer`, as `tokenizers` 0.23
///   `normalizers/bert.rs` has it.
package struct BertNormalizer: Normalizer {
    private let cleansText: Bool
    private let isolatesChinese: Bool
    private let stripsAccents: Bool
    private let lowercases: Bool

    /// Reads `clean_text`, `handle_chinese_chars`, `strip_accents` (null: as `lowercase`) and
    /// `lowercase`.
    package init(_ reader: StageReader) throws(TokenizerError) {
        cleansText = try reader.requiredFlag("clean_text")
        isolatesChinese = try reader.requiredFlag("handle_chinese_chars")
        lowercases = try reader.requiredFlag("lowercase")
        stripsAccents = try reader.flag("strip_accents", default: lowercases)
    }

    /// Runs the steps that are asked for.
    package func normalize(_ text: inout AlignedText) {
        if cleansText {
            text.filter { $0 != "\0" && $0 != "\u{FFFD}" && !Self.isControl($0) }
            text.map { ScalarClass.isWhitespace($0.value) ? " " : $0 }
        }
        if isolatesChinese { Self.isolateChinese(&text) }
        if stripsAccents {
            UnicodeNormalizer(form: .nfd).normalize(&text)
            text.filter { !ScalarClass.isNonspacingMark($0) }
        }
        if lowercases { LowercaseNormalizer().normalize(&text) }
    }

    private static func isolateChinese(_ text: inout AlignedText) {
        var changes: [AlignedText.Change] = []
        var isChanged = false
        for scalar in text.scalars {
            guard isChinese(scalar.value) else {
                changes.append(.init(scalar, 0))
                continue
            }
            isChanged = true
            changes += [.init(" ", 0), .init(scalar, 1), .init(" ", 1)]
        }
        if isChanged { text.transform(changes) }
    }

    private static func isControl(_ scalar: Unicode.Scalar) -> Bool {
        scalar != "\t" && scalar != "\n" && scalar != "\r" && ScalarClass.isOther(scalar)
    }

    private static func isChinese(_ value: UInt32) -> Bool {
        switch value {
        case 0x4E00...0x9FFF, 0x3400...0x4DBF, 0x2_0000...0x2_A6DF, 0x2_A700...0x2_B73F,
            0x2_B740...0x2_B81F, 0x2_B920...0x2_CEAF, 0xF900...0xFAFF, 0x2_F800...0x2_FA1F:
            true
        default: false
        }
    }
}
