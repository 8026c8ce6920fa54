/// The segments of a flattened batch and the position of each token in its segment.
///
/// A batch is one stream of tokens, `[tokens]`; segment boundaries say which tokens see each other. There is no padding.
public struct SequenceLayout: Sendable, Equatable {
    /// The length of each segment; their sum is the number of tokens.
    public let segmentLengths: [Int]
    /// The position of the first token, of every segment: the number of cached tokens in generation, else 0.
    public let firstPosition: Int
    /// What the segments take from one another: they are then the ends of rows; nil if each is a row.
    package let sharing: SharedPrefixes?

    /// Describes segments that start at a position.
    ///
    /// - Precondition: every length is positive.
    public init(segmentLengths: [Int], firstPosition: Int = 0) {
        precondition(segmentLengths.allSatisfy { $0 > 0 }, "a segment has at least one token")
        self.segmentLengths = segmentLengths
        self.firstPosition = firstPosition
        self.sharing = nil
    }

    /// Describes the ends of rows that share their beginnings.
    init(sharing: SharedPrefixes) {
        segmentLengths = zip(sharing.rowLengths, sharing.sharedLengths).map(-)
        firstPosition = 0
        self.sharing = sharing
    }

    /// The number of tokens of all segments.
    public var numTokens: Int { segmentLengths.reduce(0, +) }

    /// The position of each token in its row.
    public var positions: [Int64] {
        zip(firstPositions, segmentLengths).flatMap { first, length in
            (first..<first + length).map(Int64.init)
        }
    }

    /// How many tokens there are up to the end of each segment in its row: its length, with what it shares or is cached.
    package var rowLengths: [Int] { zip(firstPositions, segmentLengths).map(+) }

    private var firstPositions: [Int] {
        sharing?.sharedLengths ?? segmentLengths.map { _ in firstPosition }
    }

    /// Consecutive segments of one length, which attention takes in one call.
    package struct Run {
        /// Where the first segment starts.
        package let firstToken: Int
        /// The number of segments.
        package let count: Int
        /// The length of each segment.
        package let length: Int
    }

    /// The segments as runs of equal length, in order.
    package var runs: [Run] {
        var runs: [Run] = []
        var token = 0
        for length in segmentLengths {
            if let last = runs.last, last.length == length {
                runs[runs.count - 1] = Run(
                    firstToken: last.firstToken, count: last.count + 1, length: length)
            } else {
                runs.append(Run(firstToken: token, count: 1, length: length))
            }
            token += length
        }
        return runs
    }
}

/// Names the random numbers of dropout, so that recomputation and a resumed run draw the same ones.
public struct DropoutKey: Sendable, Hashable {
    /// The run's seed.
    public let seed: UInt64
    /// The optimizer step.
    public let step: Int
    /// The micro-batch within the step.
    public let microBatch: Int

    /// Names one forward pass.
    public init(seed: UInt64, step: Int, microBatch: Int) {
        self.seed = seed
        self.step = step
        self.microBatch = microBatch
    }

    /// The seed of the layer at a path; the same whenever and in whatever order it is asked for.
    public func seed(for path: String) -> UInt64 { StableHash.of(seed, path, step, microBatch) }
}

/// What a training pass does besides, so that the model does not learn its rows by heart.
public struct Regularization: Sendable, Hashable {
    /// The share of the uniform distribution in the target; 0 for none.
    public var labelSmoothing = 0.0
    /// The strength of noise on the embeddings; nil for none.
    public var embeddingNoise: Double?

    /// Describes it; by default there is none.
    public init(labelSmoothing: Double = 0, embeddingNoise: Double? = nil) {
        self.labelSmoothing = labelSmoothing
        self.embeddingNoise = embeddingNoise
    }
}

/// What a forward pass depends on besides its input.
public struct ForwardContext {
    /// Which tokens see each other.
    public let layout: SequenceLayout
    /// The dropout of a training pass; nil in evaluation.
    public let dropout: DropoutKey?
    /// Keys and values of the tokens before, in generation.
    public let cache: KeyValueCache?
    /// Whether linears run with their adapters; without, the model is its base.
    public let usesAdapters: Bool
    /// Where layers add gradients in backward; nil leaves all of them to autograd.
    public let gradientSums: GradientSums?
    /// What a training pass does besides.
    public let regularization: Regularization
    /// Whether the loss may compute common beginnings of rows once: see ``SharedPrefixes``.
    public let sharesPrefixes: Bool
    /// The tokens in which adapters look for their invocation, of each segment's row from position 0: in generation those of the
    /// prompt; nil if not known.
    package private(set) var rows: [[Int32]]?

    /// Describes a forward pass.
    public init(
        layout: SequenceLayout, dropout: DropoutKey? = nil, cache: KeyValueCache? = nil,
        usesAdapters: Bool = true, regularization: Regularization = Regularization(),
        sharesPrefixes: Bool = false, gradientSums: GradientSums? = nil
    ) {
        self.gradientSums = gradientSums
        self.sharesPrefixes = sharesPrefixes
        self.layout = layout
        self.dropout = dropout
        self.cache = cache
        self.usesAdapters = usesAdapters
        self.regularization = regularization
    }

    /// The same pass, whose rows have these tokens; see ``InvocationTokens``.
    package func reading(rows: [[Int32]]) -> ForwardContext {
        var context = self
        context.rows = rows
        return context
    }

    /// The same pass over another layout, of rows whose tokens are not known.
    package func over(_ layout: SequenceLayout) -> ForwardContext {
        ForwardContext(
            layout: layout, dropout: dropout, cache: cache, usesAdapters: usesAdapters,
            regularization: regularization, gradientSums: gradientSums)
    }
}
