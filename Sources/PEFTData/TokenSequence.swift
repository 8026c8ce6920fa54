/// One encoded row: its tokens, and which of them are learned.
public struct TokenSequence: Sendable, Equatable {
    /// Token ids, `[length]`.
    public let tokens: [Int32]
    /// Whether the loss of token i counts, `[length]`; token i is predicted from the tokens before
    /// it, so the first is never a target.
    public let isTarget: [Bool]
    /// The row's index in its file, from 0, blank lines not counted.
    public let row: Int
    /// Whether it is a good completion; nil where the row does not say.
    public let isDesirable: Bool?

    /// Makes a sequence; the first token's flag is cleared, since nothing predicts that token.
    ///
    /// - Parameters:
    ///   - tokens: token ids, `[length]`.
    ///   - isTarget: `[length]`.
    ///   - row: the row's index in its file, from 0.
    ///   - isDesirable: whether it is a good completion; nil where the row does not say.
    /// - Precondition: `tokens` and `isTarget` have the same length.
    public init(tokens: [Int32], isTarget: [Bool], row: Int, isDesirable: Bool? = nil) {
        precondition(
            tokens.count == isTarget.count,
            "\(tokens.count) tokens but \(isTarget.count) target flags")
        self.tokens = tokens
        self.row = row
        self.isDesirable = isDesirable
        var flags = isTarget
        if !flags.isEmpty { flags[0] = false }
        self.isTarget = flags
    }

    /// The number of tokens whose loss counts.
    public var numTargetTokens: Int { isTarget.count { $0 } }
}
