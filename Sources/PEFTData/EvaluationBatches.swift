/// A dataset's rows in the order of its file, in batches for scoring and evaluation.
///
/// A batch takes rows until it has `maxRows`, or the next would bring it above `maxTokens`; a row that
/// is above `maxTokens` alone is a batch of its own. Pairs stay together and count as one row. Batches are made when asked for.
public struct EvaluationBatches: Sendable, RandomAccessCollection {
    private let sequences: TokenSequences
    private let ranges: [Range<Int>]

    /// Plans the batches.
    ///
    /// - Parameters:
    ///   - dataset: what to evaluate on.
    ///   - maxRows: the most rows in a batch, at least 1.
    ///   - maxTokens: the most tokens in a batch of several rows; nil means no limit.
    /// - Precondition: `maxRows >= 1`.
    public init(_ dataset: TokenDataset, maxRows: Int, maxTokens: Int? = nil) {
        precondition(maxRows >= 1, "a batch of \(maxRows) rows evaluates nothing")
        sequences = dataset.sequences
        let size = dataset.rowsPerElement
        var ranges: [Range<Int>] = []
        var start = 0
        var numTokens = 0
        for index in stride(from: 0, to: dataset.sequences.count, by: size) {
            let length = (index..<index + size).reduce(0) { $0 + dataset.sequences.length(at: $1) }
            let isFull =
                index - start == maxRows * size || numTokens + length > maxTokens ?? .max
            if isFull && index > start {
                ranges.append(start..<index)
                start = index
                numTokens = 0
            }
            numTokens += length
        }
        if start < dataset.sequences.count { ranges.append(start..<dataset.sequences.count) }
        self.ranges = ranges
    }

    /// The first batch's position, 0.
    public var startIndex: Int { 0 }
    /// The number of batches.
    public var endIndex: Int { ranges.count }
    /// Makes the batch at a position.
    public subscript(position: Int) -> TokenBatch { TokenBatch(sequences[ranges[position]]) }
}
