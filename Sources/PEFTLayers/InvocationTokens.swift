/// The tokens by which a row activates an adapter: it acts from the first token of their last occurrence on.
///
/// - Source: peft 0.21.2 `tuners/lora/variants.py:calculate_alora_offsets`.
public struct InvocationTokens: Sendable, Hashable {
    /// The ids, at least one.
    public let tokens: [Int]

    /// Makes the sequence.
    ///
    /// - Precondition: there is at least one token.
    public init(_ tokens: [Int]) {
        precondition(!tokens.isEmpty, "an invocation has at least one token")
        self.tokens = tokens
    }

    /// Where the last occurrence in a row begins; nil if there is none.
    public func lastStart(in row: [Int32]) -> Int? {
        guard row.count >= tokens.count else { return nil }
        return (0...row.count - tokens.count).last { start in
            tokens.indices.allSatisfy { Int(row[start + $0]) == tokens[$0] }
        }
    }
}

extension ForwardContext {
    /// The same pass with the tokens that it reads, by which rows activate adapters.
    ///
    /// - Parameter tokens: `[tokens]`, all segments of the layout one after another.
    /// - Returns: the pass with them.
    /// - Precondition: there are as many as the layout has.
    public func reading(_ tokens: [Int32]) -> ForwardContext {
        precondition(tokens.count == layout.numTokens, "the layout has another number of tokens")
        var rows: [[Int32]] = []
        var start = 0
        for length in layout.segmentLengths {
            rows.append(Array(tokens[start..<start + length]))
            start += length
        }
        return reading(rows: rows)
    }

    /// The places of the tokens that an invocation activates, among all tokens of the pass, in order.
    ///
    /// - Returns: nil if the tokens of the rows are not known.
    package func activeTokens(by invocation: InvocationTokens) -> [Int64]? {
        guard let rows, rows.count == layout.segmentLengths.count else { return nil }
        var active: [Int64] = []
        var first = 0
        for (row, length) in zip(rows, layout.segmentLengths) {
            if let start = invocation.lastStart(in: row) {
                let skipped = min(max(0, start - layout.firstPosition), length)
                active += (first + skipped..<first + length).map(Int64.init)
            }
            first += length
        }
        return active
    }
}
