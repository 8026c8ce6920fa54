import Torch

/// Cross entropy against a target that is mixed with the uniform distribution.
///
/// `(1 - e) (-log p[t]) + e mean over v of (-log p[v]) = loss + e (z[t] - mean z)`, z the logits: what it adds to a loss is linear in the
/// logits. So a head `z = W h` needs none of them for it: `z[t] - mean z = h . (W[t] - mean W)`.
///
/// - Source: Szegedy et al. 2016, "Rethinking the inception architecture", section 7; transformers 5.23
///   `trainer_pt_utils.py:LabelSmoother`.
struct LabelSmoothing {
    /// The share e of the uniform distribution, above 0 and below 1.
    let factor: Double

    /// Nil where there is nothing to smooth.
    init?(_ factor: Double) {
        guard factor > 0 else { return nil }
        self.factor = factor
    }

    /// Smooths losses of logits; differentiable.
    ///
    /// - Parameters:
    ///   - losses: `[n]`.
    ///   - logits: `[n, vocabulary]`, float32.
    ///   - labels: the target of each row.
    /// - Returns: `[n]`.
    /// - Throws: `TorchError` if memory does not suffice.
    func smoothed(
        _ losses: Tensor, logits: Tensor, labels: [Int64]
    ) throws(TorchError) -> Tensor {
        let vocabularySize = Int64(logits.shape[1])
        let places = labels.enumerated().map { Int64($0) * vocabularySize + $1 }
        let own = try logits.reshape([-1])
            .indexSelected(0, Tensor(places, shape: [places.count]).to(logits.device))
        return try losses.adding(own - logits.mean([1]), scaledBy: factor)
    }

    /// Smooths losses and gradients of a frozen head in place.
    ///
    /// - Parameters:
    ///   - losses: float32 `[n]`.
    ///   - gradient: `[n, hidden]`, or nil.
    ///   - hidden: what the losses are of, `[n, hidden]`.
    ///   - weight: `[vocabulary, hidden]`.
    ///   - labels: the target of each row.
    /// - Throws: `TorchError` if memory does not suffice.
    /// - Memory: two tensors of the gradient's shape in float32.
    /// - Complexity: reads the whole weight once for its mean.
    func smooth(
        _ losses: Tensor, gradient: Tensor?, hidden: Tensor, weight: Tensor, labels: [Int64]
    ) throws(TorchError) {
        let rows = try weight.indexSelected(
            0, Tensor(labels, shape: [labels.count]).to(weight.device))
        let direction = try rows.to(.float32) - Self.mean(of: weight)
        try losses.addInPlace((hidden.to(.float32) * direction).sum([1]), scaledBy: factor)
        guard let gradient else { return }
        let wide = try gradient.to(.float32)
        try gradient.copyInPlace(from: wide.adding(direction, scaledBy: factor))
    }

    /// Rows that are widened together.
    private static let sliceLength = 4096

    /// The mean of all rows, summed in float32.
    private static func mean(of weight: Tensor) throws(TorchError) -> Tensor {
        let (count, size) = (weight.shape[0], weight.shape[1])
        let sum = try Tensor.zeros([size], on: weight.device)
        for start in stride(from: 0, to: count, by: sliceLength) {
            let rows = try weight.narrow(0, start, min(sliceLength, count - start))
            try sum.addInPlace(rows.to(.float32).sum([0]))
        }
        return try sum * (1 / Double(count))
    }
}
