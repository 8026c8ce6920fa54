/// The third stage: turns one piece of text into tokens of the vocabulary.
package protocol TokenModel: Sendable {
    /// The tokens and their ids.
    var vocabulary: Vocabulary { get }

    /// Appends the tokens of one piece.
    ///
    /// - Parameters:
    ///   - piece: the bytes of the piece, not empty.
    ///   - isByteLevel: whether the piece stands for the spelling of `piece` in the byte alphabet.
    ///   - workspace: what one encoding call may reuse from piece to piece.
    ///   - tokens: receives the tokens; their ranges count bytes of `piece`.
    func tokenize(
        _ piece: UnsafeBufferPointer<UInt8>, isByteLevel: Bool,
        workspace: inout ModelWorkspace, tokens: inout [PieceToken])
}

/// What a model reuses between pieces: a cache and buffers.
package struct ModelWorkspace: Sendable {
    /// The tokens of pieces seen before; valid for one tokenizer.
    package var cache = WordCache()
    /// A buffer of symbols.
    package var symbols: [BPESymbol] = []
    /// A buffer of waiting merges.
    package var queue = MergeQueue()

    /// Buffers of more symbols than this are not kept.
    private static let maximumKeptSymbols = 1 << 14

    /// Makes an empty workspace.
    package init() {}

    /// Gives the memory of large buffers back.
    package mutating func trim() {
        guard symbols.capacity > Self.maximumKeptSymbols else { return }
        symbols = []
        queue = MergeQueue()
    }
}

/// The models that a `tokenizer.json` may name.
package enum ModelRegistry {
    /// How each type is read.
    package static let makers: [String: StageMaker<any TokenModel>] = [
        "BPE": StageMaker { reader throws(TokenizerError) in
            try BPEModel(reader)
        }
    ]
}
