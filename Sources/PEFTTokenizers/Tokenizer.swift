/// Turns text into token ids and back, token for token as Hugging Face `tokenizers` does.
///
/// The pipeline: added tokens are cut out, the rest is normalized, cut into pieces, tokenized by the
/// model and post-processed; decoding has a stage of its own. Each kind of stage is one file under
/// `Stages`, with a registry of the types that a file may name.
///
/// The sections `truncation` and `padding` of `tokenizer.json` are ignored on purpose: how long
/// sequences may be is the data's matter here, and batches are not padded.
public struct Tokenizer: Sendable {
    /// Roles of tokens and the chat template.
    public let configuration: TokenizerConfiguration

    private let model: any TokenModel
    private let addedTokens: AddedTokens
    private let normalizer: (any Normalizer)?
    private let preTokenizer: (any PreTokenizer)?
    private let postProcessor: (any PostProcessor)?
    private let decoder: (any Decoder)?
    private let workspaces = WorkspacePool()

    /// Puts a tokenizer together; `addedTokens` have their final ids.
    package init(
        model: any TokenModel, addedTokens: [AddedToken], normalizer: (any Normalizer)? = nil,
        preTokenizer: (any PreTokenizer)? = nil, postProcessor: (any PostProcessor)? = nil,
        decoder: (any Decoder)? = nil, configuration: TokenizerConfiguration
    ) throws(TokenizerError) {
        self.model = model
        self.normalizer = normalizer
        self.preTokenizer = preTokenizer
        self.postProcessor = postProcessor
        self.decoder = decoder
        self.configuration = configuration
        self.addedTokens = try AddedTokens(addedTokens, normalizer: normalizer)
    }

    /// Tokenizes `text`.
    ///
    /// - Parameters:
    ///   - text: any text.
    ///   - addSpecialTokens: whether the post-processor may insert tokens, such as one that begins
    ///     the text. Special tokens that the text spells out are recognized in any case.
    /// - Returns: ids and byte offsets.
    /// - Throws: `TokenizerError.invalidRegex` if a regular expression gives up on the text,
    ///   `TokenizerError.unknownText` if the vocabulary has no token for a part of it and none for
    ///   what is unknown.
    public func encode(
        _ text: String, addSpecialTokens: Bool = true
    ) throws(TokenizerError) -> Encoding {
        let original = Array(text.utf8)
        var list = try addedTokens.extract(from: original, normalizer: normalizer)
        try preTokenizer?.preTokenize(&list)
        if !model.readsPlainBytes { list.spellBytes() }
        var tokens = TokenList(
            encoding: Encoding(), original: original, addedTexts: [:], vocabulary: model.vocabulary)
        try tokenize(list, into: &tokens)
        postProcessor?.process(&tokens, addSpecialTokens: addSpecialTokens)
        return tokens.encoding
    }

    /// Turns ids back into text.
    ///
    /// Bytes that are no valid UTF-8 become replacement characters (U+FFFD).
    ///
    /// - Parameters:
    ///   - ids: ids below `vocabularySize`.
    ///   - skipSpecialTokens: whether special tokens leave no trace.
    /// - Returns: the text.
    /// - Throws: `TokenizerError.unknownID` for an id that no token has, where Hugging Face's
    ///   tokenizer leaves it out silently.
    public func decode(
        _ ids: [Int], skipSpecialTokens: Bool = false
    ) throws(TokenizerError) -> String {
        for id in ids where bytes(of: id) == nil {
            throw .unknownID(id: id, vocabularySize: vocabularySize)
        }
        return try decodeKnown(ids, skipSpecialTokens: skipSpecialTokens)
    }

    /// Decodes token by token, for output that appears while it is generated.
    public func makeStreamingDecoder(skipSpecialTokens: Bool = false) -> StreamingDecoder {
        StreamingDecoder(self, skipSpecialTokens: skipSpecialTokens)
    }

    /// The number of tokens, added ones included.
    public var vocabularySize: Int {
        model.vocabulary.count
            + addedTokens.byID.keys.count { model.vocabulary.bytes(of: $0) == nil }
    }

    /// The token with this id as the vocabulary spells it, or nil if there is none.
    public func token(_ id: Int) -> String? {
        addedTokens.byID[id]?.content
            ?? model.vocabulary.bytes(of: id).map { String(decoding: $0, as: UTF8.self) }
    }

    /// The id of the token that the vocabulary spells so, or nil if there is none.
    public func id(of token: String) -> Int? {
        addedTokens.id(of: token) ?? model.vocabulary.id(of: token)
    }

    /// Whether decoding leaves this token out when it skips special tokens.
    public func isSpecial(_ id: Int) -> Bool { addedTokens.byID[id]?.isSpecial ?? false }

    /// Decodes, and leaves out ids that no token has.
    func decodeKnown(
        _ ids: [Int], skipSpecialTokens: Bool
    ) throws(TokenizerError) -> String {
        let tokens = ids.filter { !skipSpecialTokens || !isSpecial($0) }.compactMap(bytes(of:))
        guard let decoder else {
            return String(decoding: Array(tokens.joined(separator: " ".utf8)), as: UTF8.self)
        }
        return String(decoding: Array(try decoder.decode(tokens).joined()), as: UTF8.self)
    }

    private func bytes(of id: Int) -> [UInt8]? {
        addedTokens.decodingForm(id).map { Array($0.utf8) }
            ?? model.vocabulary.bytes(of: id).map(Array.init)
    }

    private func tokenize(
        _ list: PieceList, into tokens: inout TokenList
    ) throws(TokenizerError) {
        var workspace = workspaces.take()
        defer { workspaces.give(workspace) }
        var ids: [Int] = []
        var offsets: [Range<Int>] = []
        ids.reserveCapacity(list.pieces.count + 2)
        offsets.reserveCapacity(list.pieces.count + 2)
        var pieceTokens: [PieceToken] = []
        for piece in list.pieces {
            let text = list.texts[piece.text]
            if piece.tokenID >= 0 {
                tokens.addedTexts[ids.count] = text.bytes[piece.range]
                ids.append(piece.tokenID)
                offsets.append(text.originalRange(piece.range))
                continue
            }
            pieceTokens.removeAll(keepingCapacity: true)
            try text.bytes.withUnsafeBufferPointer { bytes throws(TokenizerError) in
                try model.tokenize(
                    UnsafeBufferPointer(rebasing: bytes[piece.range]),
                    isByteLevel: list.isByteLevel, workspace: &workspace, tokens: &pieceTokens)
            }
            let start = piece.range.lowerBound
            for token in pieceTokens {
                ids.append(Int(token.id))
                offsets.append(
                    text.originalRange(start + Int(token.start)..<start + Int(token.end)))
            }
        }
        tokens.encoding = Encoding(ids: ids, offsets: offsets)
    }
}
