/// One micro-batch for the model: whole rows flattened one after another, without padding.
///
/// Attention is block-diagonal over the segments and positions restart in each, so rows that share a
/// batch do not see one another.
public struct TokenBatch: Sendable, Equatable {
    /// The value in `targets` at a position whose prediction does not count.
    public static let ignoredTarget: Int32 = -100

    /// Token ids of all segments, flattened, `[numTokens]`.
    public let tokens: [Int32]
    /// The token that each position predicts, or `ignoredTarget`, `[numTokens]`.
    ///
    /// `targets[i] = tokens[i + 1]` if that token is in the same segment and is a target; so the last
    /// position of a segment predicts nothing.
    public let targets: [Int32]
    /// The length of each segment, in the order of `tokens`.
    public let segmentLengths: [Int]
    /// The file's row that each segment is, in the order of `tokens`.
    public let rows: [Int]
    /// Whether each segment is a good completion; nil where rows do not say.
    public let isDesirable: [Bool?]

    /// One token and no target: what a process runs that has no rows left while others have some.
    public static let placeholder = TokenBatch(
        tokens: [0], targets: [ignoredTarget], segmentLengths: [1], rows: [], isDesirable: [])

    /// Flattens the sequences and shifts their targets inside each.
    ///
    /// - Parameter sequences: at least one sequence to be useful; each becomes one segment.
    public init(_ sequences: some Collection<TokenSequence>) {
        let numTokens = sequences.reduce(0) { $0 + $1.tokens.count }
        var tokens: [Int32] = []
        tokens.reserveCapacity(numTokens)
        var targets: [Int32] = []
        targets.reserveCapacity(numTokens)
        for sequence in sequences {
            tokens.append(contentsOf: sequence.tokens)
            for next in sequence.tokens.indices.dropFirst() {
                targets.append(
                    sequence.isTarget[next] ? sequence.tokens[next] : Self.ignoredTarget)
            }
            if !sequence.tokens.isEmpty { targets.append(Self.ignoredTarget) }
        }
        self.tokens = tokens
        self.targets = targets
        self.segmentLengths = sequences.map(\.tokens.count)
        self.rows = sequences.map(\.row)
        self.isDesirable = sequences.map(\.isDesirable)
    }

    /// The same tokens with other targets.
    package func with(targets: [Int32]) -> TokenBatch {
        precondition(targets.count == tokens.count, "one target for each token")
        return TokenBatch(
            tokens: tokens, targets: targets, segmentLengths: segmentLengths, rows: rows,
            isDesirable: isDesirable)
    }

    /// One of the segments as a batch of its own.
    ///
    /// - Precondition: an index of ``segmentLengths``.
    package func segment(_ index: Int) -> TokenBatch {
        let start = segmentLengths[..<index].reduce(0, +)
        let range = start..<(start + segmentLengths[index])
        return TokenBatch(
            tokens: Array(tokens[range]), targets: Array(targets[range]),
            segmentLengths: [segmentLengths[index]], rows: [rows[index]],
            isDesirable: [isDesirable[index]])
    }

    private init(
        tokens: [Int32], targets: [Int32], segmentLengths: [Int], rows: [Int], isDesirable: [Bool?]
    ) {
        self.tokens = tokens
        self.targets = targets
        self.segmentLengths = segmentLengths
        self.rows = rows
        self.isDesirable = isDesirable
    }

    /// The number of positions whose prediction counts: the batch's share of the loss' normalizer.
    public var numTargetTokens: Int { targets.count { $0 != Self.ignoredTarget } }
}
