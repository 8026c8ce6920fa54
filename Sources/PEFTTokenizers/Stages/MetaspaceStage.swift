/// Writes spaces as visible characters and cuts before them; both a pre-tokenizer and a decoder.
///
/// - Source: SentencePiece's way with spaces; results are those of `tokenizers` 0.23
///   `pre_tokenizers/metaspace.rs`.
package struct MetaspaceStage: PreTokenizer {
    /// Which texts get a character for a space before them, unless they begin with it.
    package enum PrependScheme: String, CaseIterable, Sendable {
        /// Only what begins the original text.
        case first
        /// None.
        case never
        /// Each piece.
        case always
    }

    private let replacement: Unicode.Scalar
    private let prependScheme: PrependScheme
    private let splits: Bool
    private let encoded: [UInt8]

    /// Makes the stage.
    ///
    /// - Parameters:
    ///   - replacement: what stands for a space.
    ///   - prependScheme: which texts get one before them.
    ///   - splits: whether pieces are cut before each.
    package init(
        replacement: Unicode.Scalar = "\u{2581}", prependScheme: PrependScheme, splits: Bool
    ) {
        self.replacement = replacement
        self.prependScheme = prependScheme
        self.splits = splits
        encoded = Array(String(replacement).utf8)
    }

    /// Reads `replacement`, `prepend_scheme` and `split`, and of older files `add_prefix_space`.
    package init(_ reader: StageReader) throws(TokenizerError) {
        var scheme = PrependScheme.always
        if let member = reader.member("prepend_scheme") {
            guard let known = PrependScheme(rawValue: try member.string()) else {
                let known = PrependScheme.allCases.map(\.rawValue).joined(separator: ", ")
                throw member.mismatch("one of " + known)
            }
            scheme = known
        }
        if try !reader.flag("add_prefix_space", default: true) {
            guard scheme == .never else {
                throw .invalidField(
                    file: reader.file, path: reader.path + ".add_prefix_space",
                    expected: "true, or the prepend_scheme \"never\"", found: "false")
            }
        }
        self.init(
            replacement: try reader.required("replacement").character(), prependScheme: scheme,
            splits: try reader.flag("split", default: true))
    }

    /// Writes and cuts.
    package func preTokenize(_ list: inout PieceList) throws(TokenizerError) {
        list.spellBytes()
        let texts = list.texts
        list.rewrite { piece in
            let bytes = texts[piece.text].bytes[piece.range]
            return bytes.contains(0x20)
                || isPrepended(texts[piece.text], piece.range)
        } _: { text in
            let isPrepended = isPrepended(text, text.bytes.indices)
            let spaces = text.bytes.indices.filter { text.bytes[$0] == 0x20 }
            text.replace(spaces.map { $0..<$0 + 1 }, with: encoded)
            if isPrepended { text.prepend(String(replacement)) }
        }
        guard splits else { return }
        try list.split(behavior: .mergedWithNext) { bytes, spans in
            ScalarSpans.append(in: bytes, to: &spans) { $0 == replacement.value }
        }
    }

    /// Whether a piece, with its spaces replaced, gets a replacement before it.
    private func isPrepended(_ text: AlignedText, _ range: Range<Int>) -> Bool {
        guard prependScheme != .never else { return false }
        let bytes = text.bytes[range]
        if bytes.first == 0x20 || bytes.starts(with: encoded) { return false }
        return prependScheme == .always || text.originalRange(range).lowerBound == 0
    }
}

extension MetaspaceStage: Decoder {
    /// Turns replacements back into spaces; in the first token they disappear, unless none is put
    /// before a text.
    package func decode(_ tokens: [[UInt8]]) -> [[UInt8]] {
        tokens.enumerated().map { index, token in
            var result: [UInt8] = []
            for scalar in String(decoding: token, as: UTF8.self).unicodeScalars {
                if scalar != replacement {
                    UTF8Scan.append(scalar, to: &result)
                } else if index > 0 || prependScheme == .never {
                    result.append(0x20)
                }
            }
            return result
        }
    }
}
