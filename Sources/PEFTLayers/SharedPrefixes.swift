public import Torch

// N tokens of all rows, M of them computed.

/// Rows of a batch that begin alike, the common beginnings computed once.
///
/// A token's hidden state depends on the tokens before it alone, so rows with one beginning have the same states there: two answers to a
/// prompt, or chats with one system prompt. The batch is then a forest whose branches are the rows' own ends, and everything that treats
/// tokens one by one (embedding, norms, linear layers, adapters, feed-forward) runs over its M tokens. ``Attention`` alone sees rows: queries,
/// keys and values are put in the rows' order, and of its output one copy is kept of each token. So every kernel of attention takes part, exact
/// for windows and caps too; its own cost stays that of N tokens. Gradients of a token are added in float32 over its rows.
///
/// - Memory: 16 bytes a token; in attention, query, key, value and output of N tokens.
/// - Source: Hydragen (Juravsky et al. 2024) and DeFT (Yao et al. 2024) share prefixes in decoding; here it is for training.
public struct SharedPrefixes: Sendable, Equatable {
    /// Beginnings that are shorter are computed again: the gather would not pay.
    public static let shortest = 16

    /// The segments as if nothing were shared.
    package let rowLengths: [Int]
    /// How many tokens at its beginning each row takes from rows before it; less than its length.
    package let sharedLengths: [Int]
    /// The computed token that each token of the rows is, `[N]`.
    private let computed: [Int64]
    /// The first token of the rows that each computed token is, `[M]`.
    private let first: [Int64]

    /// Finds what rows share: each takes the longest beginning that it has in common with a row before it; nil where nothing is shared.
    ///
    /// - Parameters:
    ///   - tokens: of all rows, `[N]`.
    ///   - rowLengths: the segments.
    ///   - areAlike: whether tokens have the same states in rows of two lengths.
    /// - Complexity: the rows' lengths times their number.
    public init?(
        tokens: [Int32], rowLengths: [Int], areAlike: (_ length: Int, _ other: Int) -> Bool
    ) {
        var starts: [Int] = []
        var sharedLengths: [Int] = []
        var computed: [Int64] = []
        var first: [Int64] = []
        for (row, length) in rowLengths.enumerated() {
            let start = computed.count
            var source = 0
            var shared = 0
            for other in 0..<row where areAlike(rowLengths[other], length) {
                let common = zip(
                    tokens[starts[other]..<starts[other] + rowLengths[other]],
                    tokens[start..<start + length - 1]
                ).prefix { $0 == $1 }.count
                if common > shared { (source, shared) = (starts[other], common) }
            }
            if shared < Self.shortest { shared = 0 }
            computed += computed[source..<source + shared]
            for token in start + shared..<start + length {
                computed.append(Int64(first.count))
                first.append(Int64(token))
            }
            starts.append(start)
            sharedLengths.append(shared)
        }
        guard first.count < computed.count else { return nil }
        self.rowLengths = rowLengths
        self.sharedLengths = sharedLengths
        self.computed = computed
        self.first = first
    }

    /// The segments of what is computed: each row's own end, from the position where it leaves the others.
    public var layout: SequenceLayout { SequenceLayout(sharing: self) }

    /// The rows as they are without sharing.
    var rows: SequenceLayout { SequenceLayout(segmentLengths: rowLengths) }

    /// What is computed of a list with an element for each token of the rows.
    public func kept<Element>(of elements: [Element]) -> [Element] {
        first.map { elements[Int($0)] }
    }

    /// The states of all tokens of the rows, `[M, ...] -> [N, ...]`; differentiable.
    ///
    /// - Throws: `TorchError` if memory does not suffice.
    public func inRows(_ states: Tensor) throws(TorchError) -> Tensor { try inRows([states])[0] }

    /// The same of several tensors of the same tokens.
    func inRows(_ states: [Tensor]) throws(TorchError) -> [Tensor] {
        let indices = try Tensor(computed, shape: [computed.count]).to(states[0].device)
        return try Autograd.node("rows of shared tokens", inputs: states) {
            () throws(TorchError) -> (outputs: [Tensor], pullback: Pullback) in
            let kinds = states.map { ($0.shape, $0.dtype) }
            let pullback: Pullback = { gradients throws(TorchError) in
                try zip(gradients, kinds).map { gradient, kind throws(TorchError) in
                    guard let gradient else { return nil }
                    let zeros = try Tensor.zeros(kind.0, dtype: .float32, on: gradient.device)
                    return try zeros.indexAdded(0, indices, gradient.to(.float32)).to(kind.1)
                }
            }
            return (
                try states.map { state throws(TorchError) in
                    try state.detach().indexSelected(0, indices)
                }, pullback
            )
        }
    }

    /// One copy of each token's state, `[N, ...] -> [M, ...]`; differentiable.
    ///
    /// - Throws: `TorchError` if memory does not suffice.
    func once(_ states: Tensor) throws(TorchError) -> Tensor {
        let indices = try Tensor(first, shape: [first.count])
        return try states.indexSelected(0, indices.to(states.device))
    }
}
