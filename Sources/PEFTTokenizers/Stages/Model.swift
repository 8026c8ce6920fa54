/// The third stage: turns one piece of text into tokens of the vocabulary.
package protocol TokenModel: Sendable {
    /// The tokens and their ids.
    var vocabulary: Vocabulary { get }

    /// Whether the model takes byte-level pieces before they are spelled in the byte alphabet.
    var readsPlainBytes: Bool { get }

    /// Appends the tokens of one piece.
    ///
    /// - Parameters:
    ///   - piece: the bytes of the piece, not empty.
    ///   - isByteLevel: whether the piece stands for the spelling of `piece` in the byte alphabet.
    ///   - workspace: what one encoding call may reuse from piece to piece.
    ///   - tokens: receives the tokens; their ranges count bytes of `piece`.
    /// - Throws: `TokenizerError.unknownText` for what the vocabulary lacks if it has no token for
    ///   that either.
    func tokenize(
        _ piece: UnsafeBufferPointer<UInt8>, isByteLevel: Bool,
        workspace: inout ModelWorkspace, tokens: inout [PieceToken]) throws(TokenizerError)
}

/// What a model reuses between pieces: a cache and buffers.
package struct ModelWorkspace: Sendable {
    /// The tokens of pieces seen before; valid for one tokenizer.
    package var cache = WordCache()
    /// A buffer of symbols.
    package var symbols: [BPESymbol] = []
    /// A buffer of waiting merges.
    package var queue = MergeQueue()
    /// A buffer of the best paths to each place of a piece.
    package var paths: [UnigramPath] = []

    /// Buffers of more symbols than this are not kept.
    private static let maximumKeptSymbols = 1 << 14

    /// Makes an empty workspace.
    package init() {}

    /// Gives the memory of large buffers back.
    package mutating func trim() {
        if symbols.capacity > Self.maximumKeptSymbols {
            symbols = []
            queue = MergeQueue()
        }
        if paths.capacity > Self.maximumKeptSymbols { paths = [] }
    }
}

/// The models that a `tokenizer.json` may name.
package enum ModelRegistry {
    /// How each type is read.
    package static let makers: [String: StageMaker<any TokenModel>] = [
        "BPE": StageMaker { reader throws(TokenizerError) in
            try BPEModel(reader)
        },
        "Unigram": StageMaker { reader throws(TokenizerError) in
            try UnigramModel(reader)
        },
        "WordPiece": StageMaker { reader throws(TokenizerError) in
            try WordPieceModel(reader)
        },
        "WordLevel": StageMaker { reader throws(TokenizerError) in
            try WordLevelModel(reader)
        },
    ]

    /// Reads the model; files of older versions name no type, and have the members of one.
    package static func make(_ reader: StageReader) throws(TokenizerError) -> any TokenModel {
        guard reader.member("type") == nil else { return try reader.make(from: makers) }
        if reader.member("merges") != nil { return try BPEModel(reader) }
        if reader.member("vocab")?.value.arrayValue != nil { return try UnigramModel(reader) }
        if reader.member("continuing_subword_prefix") != nil { return try WordPieceModel(reader) }
        return try WordLevelModel(reader)
    }
}
