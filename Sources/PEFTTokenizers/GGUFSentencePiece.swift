/// How texts meet a vocabulary of SentencePiece, by the family that the GGUF file is of.
///
/// The reference is what `transformers` 5.23 makes of the same file
/// (`integrations/gguf/gguf_tokenizer_mapping.py`).
enum GGUFSentencePieceStyle {
    /// A space before the text; spaces are visible characters.
    case llama
    /// As `llama`, with the space before each part between added tokens, and before a space too.
    case phi3
    /// No space before the text; runs of spaces are tokens, which the file spells plainly.
    case gemma

    /// The style of a value of `general.architecture`.
    init(architecture: String?) {
        switch architecture {
        case "gemma", "gemma2", "gemma3": self = .gemma
        case "phi3": self = .phi3
        default: self = .llama
        }
    }

    /// Tokens that are special where the vocabulary has them, whatever the file says of them.
    var specialTokens: [String] {
        self == .gemma
            ? ["<unk>", "<bos>", "<eos>", "<pad>", "<mask>"] : ["<unk>", "<s>", "</s>"]
    }

    /// The token for text that the vocabulary lacks, of which bytes are no tokens either.
    var unknownToken: String? { self == .gemma ? "<unk>" : nil }

    /// The character that stands for a space.
    static let space = "\u{2581}"

    func makeNormalizer() throws(TokenizerError) -> (any Normalizer)? {
        switch self {
        case .llama: return nil
        case .gemma: return try ReplaceStage(literal: " ", with: Self.space)
        case .phi3:
            return NormalizerSequence([
                PrependNormalizer(prefix: Self.space),
                try ReplaceStage(literal: " ", with: Self.space),
            ])
        }
    }

    var preTokenizer: (any PreTokenizer)? {
        self == .llama ? MetaspaceStage(prependScheme: .first, splits: false) : nil
    }

    func makeDecoder() throws(TokenizerError) -> any Decoder {
        var decoders: [any Decoder] = [
            try ReplaceStage(literal: Self.space, with: " "), ByteFallbackDecoder(), FuseDecoder(),
        ]
        if self != .gemma { decoders.append(StripDecoder(content: " ", start: 1, stop: 0)) }
        return DecoderSequence(decoders)
    }
}

extension Tokenizer {
    /// Makes the tokenizer of a GGUF file of the kind `llama`.
    init(sentencePiece gguf: GGUFVocabulary) throws(TokenizerError) {
        let style = GGUFSentencePieceStyle(architecture: gguf.architecture)
        var vocabulary = Vocabulary(capacity: gguf.tokens.count)
        for (id, token) in gguf.tokens.enumerated() {
            let isSpaces = !token.isEmpty && token.utf8.allSatisfy { $0 == 0x20 }
            let spelled =
                style == .gemma && isSpaces
                ? String(repeating: GGUFSentencePieceStyle.space, count: token.utf8.count) : token
            vocabulary.insert(spelled, id: id)
        }
        var options = BPEModel.Options()
        options.unknownToken = style.unknownToken
        options.fusesUnknown = true
        options.fallsBackToBytes = true
        let configuration = try gguf.configuration(addsBos: true)
        let special = style.specialTokens.compactMap { vocabulary.id(of: $0) }
        let added = try gguf.addedTokens(roles: gguf.roleIDs.union(special)).filter {
            vocabulary.id(of: $0.content) != nil
        }
        try self.init(
            model: gguf.makeModel(vocabulary, options, style), addedTokens: added,
            normalizer: style.makeNormalizer(), preTokenizer: style.preTokenizer,
            postProcessor: Self.template(configuration, file: GGUFVocabulary.file),
            decoder: style.makeDecoder(), configuration: configuration)
    }
}

/// A merge that a vocabulary implies.
private struct ImpliedMerge {
    let score: Double
    /// The numbers of characters of both sides.
    let lengths: (Int, Int)
    /// The ids of both sides and of the whole.
    let ids: (left: Int32, right: Int32, merged: Int32)
}

extension GGUFVocabulary {
    fileprivate func makeModel(
        _ vocabulary: Vocabulary, _ options: BPEModel.Options, _ style: GGUFSentencePieceStyle
    ) throws(TokenizerError) -> BPEModel {
        guard merges.isEmpty else {
            return try BPEModel(
                vocabulary: vocabulary, merges: merges.map(JSONValue.string), options: options,
                reader: StageReader(file: Self.file, path: "tokenizer.ggml.merges", value: .null))
        }
        // Gemma's merges go by the order of its tokens, not by their scores.
        if style != .gemma {
            guard scores.count == tokens.count, !scores.contains(where: \.isNaN) else {
                throw .invalidField(
                    file: Self.file, path: "tokenizer.ggml.scores",
                    expected: "\(tokens.count) numbers, or tokenizer.ggml.merges",
                    found: scores.contains(where: \.isNaN) ? "NaN" : "\(scores.count)")
            }
        }
        let implied = impliedMerges(vocabulary) { style == .gemma ? -Double($0) : scores[$0] }
        var table = MergeTable(capacity: implied.count)
        for (rank, merge) in implied.enumerated() {
            table.set(
                merge.ids.left, merge.ids.right,
                .init(rank: UInt32(truncatingIfNeeded: rank), id: merge.ids.merged))
        }
        return BPEModel(vocabulary: vocabulary, merges: table, options: options)
    }

    /// Every cut of a token into two tokens, those of the best tokens first, of the same score those
    /// with the longer left side, then the longer right side, then in the order of the file.
    ///
    /// - Source: `transformers tokenization_utils_base.py:generate_merges`.
    private func impliedMerges(
        _ vocabulary: Vocabulary, score: (Int) -> Double
    ) -> [ImpliedMerge] {
        var merges: [ImpliedMerge] = []
        var isDone = [Bool](repeating: false, count: tokens.count)
        for id in tokens.indices {
            // Of equal tokens the last one's id and score count, at the place of the first one.
            guard let token = vocabulary.bytes(of: id).map(Array.init) else { continue }
            let merged = vocabulary.id(of: token)
            if isDone[Int(merged)] { continue }
            isDone[Int(merged)] = true
            let numCharacters = token.count { !UTF8Scan.isContinuation($0) }
            let score = score(Int(merged))
            let first = merges.count
            token.withUnsafeBufferPointer { bytes in
                var length = 1
                for cut in 1..<max(bytes.count, 1) where !UTF8Scan.isContinuation(bytes[cut]) {
                    defer { length += 1 }
                    let left = vocabulary.id(of: UnsafeBufferPointer(rebasing: bytes[..<cut]))
                    guard left >= 0 else { continue }
                    let right = vocabulary.id(of: UnsafeBufferPointer(rebasing: bytes[cut...]))
                    guard right >= 0 else { continue }
                    merges.append(
                        ImpliedMerge(
                            score: score, lengths: (length, numCharacters - length),
                            ids: (left, right, merged)))
                }
            }
            merges[first...].sort { ($0.ids.left, $0.ids.right) < ($1.ids.left, $1.ids.right) }
        }
        let order = merges.indices.sorted {
            let (a, b) = (merges[$0], merges[$1])
            if a.score != b.score { return a.score > b.score }
            return (b.lengths.0, b.lengths.1, $0) < (a.lengths.0, a.lengths.1, $1)
        }
        return order.map { merges[$0] }
    }
}
