import Torch

// N tokens of all segments, S segments of one length L, H query heads, G key/value heads, D head dimension.

/// Attention with capped scores, `softmax(softCap tanh(scale Q K^T / softCap)) V`, in plain operations.
///
/// Softmax is float32. Scores are computed again in backward, a run of segments of one length at a time.
///
/// - Source: Gemma Team 2024, "Gemma 2", section 2; transformers `models/gemma2/modeling_gemma2.py:eager_attention_forward`.
/// - Memory: saves query, key and value; during forward and backward several tensors of the scores of one run, `S H L L`.
struct CappedAttention {
    let scale: Double
    /// How many keys a token sees at most, itself among them; nil: all before it.
    let window: Int?
    let softCap: Double

    /// Attends within each segment.
    ///
    /// - Parameters:
    ///   - query: `[N, H, D]`.
    ///   - key: `[N, G, D]`.
    ///   - value: as `key`.
    ///   - layout: the segments.
    /// - Returns: `[N, H, D]`.
    /// - Throws: `TorchError` if memory does not suffice.
    func causal(
        query: Tensor, key: Tensor, value: Tensor, layout: SequenceLayout
    ) throws(TorchError) -> Tensor {
        let longest = try Attention.mask(
            numTokens: layout.segmentLengths.max() ?? 0, window: window)
        var outputs: [Tensor] = []
        for run in layout.runs {
            let mask = try longest.narrow(0, 0, run.length).narrow(1, 0, run.length)
            outputs.append(
                try recomputed(query, key, value) { query, key, value throws(TorchError) in
                    try attend(query, key, value, run, mask: mask)
                })
        }
        return try Attention.joined(outputs)
    }

    /// Attends from the newest token to all cached ones.
    ///
    /// - Parameters:
    ///   - query: `[1, H, D]`.
    ///   - key: `[N, G, D]`.
    ///   - value: as `key`.
    /// - Returns: `[1, H, D]`.
    /// - Throws: `TorchError` if memory does not suffice.
    func newest(query: Tensor, key: Tensor, value: Tensor) throws(TorchError) -> Tensor {
        let all = SequenceLayout.Run(firstToken: 0, count: 1, length: key.shape[0])
        return try attend(query, key, value, all, mask: nil)
    }

    /// The output of a node that keeps its inputs alone.
    private func recomputed(
        _ query: Tensor, _ key: Tensor, _ value: Tensor,
        _ body: @escaping (Tensor, Tensor, Tensor) throws(TorchError) -> Tensor
    ) throws(TorchError) -> Tensor {
        let inputs = [query, key, value]
        let outputs = try Autograd.node("attention", inputs: inputs) {
            () throws(TorchError) -> (outputs: [Tensor], pullback: Pullback) in
            let saved = try inputs.map { input throws(TorchError) in try input.detach() }
            let pullback: Pullback = { gradients throws(TorchError) in
                guard let gradient = gradients[0] else { return [nil, nil, nil] }
                return try withGradEnabled(true) { () throws(TorchError) -> [Tensor?] in
                    var leaves: [Tensor] = []
                    for tensor in saved {
                        let leaf = try tensor.detach()
                        try leaf.setRequiresGrad(true)
                        leaves.append(leaf)
                    }
                    return try Autograd.gradientsInsideNode(
                        of: body(leaves[0], leaves[1], leaves[2]), gradient: gradient,
                        withRespectTo: leaves)
                }
            }
            return ([try body(saved[0], saved[1], saved[2])], pullback)
        }
        return outputs[0]
    }

    /// The output for the tokens of a run, or for the last of them where there is one query.
    private func attend(
        _ query: Tensor, _ key: Tensor, _ value: Tensor, _ run: SequenceLayout.Run, mask: Tensor?
    ) throws(TorchError) -> Tensor {
        let group = query.shape[1] / key.shape[1]
        let queries =
            query.shape[0] == 1 && run.length > 1
            ? SequenceLayout.Run(firstToken: 0, count: 1, length: 1) : run
        let query = try Attention.segmentsFirst(query, queries, repeatedBy: 1)
        let key = try Attention.segmentsFirst(key, run, repeatedBy: group)
        let value = try Attention.segmentsFirst(value, run, repeatedBy: group)
        var scores = try query.matmul(key.transposed(2, 3)) * scale  // [S, H, L, L]
        scores = try (scores * (1 / softCap)).tanh() * softCap
        if let mask { scores = try scores + mask.to(scores.dtype).to(scores.device) }
        let weights = try scores.to(.float32).softmax().to(query.dtype)
        return try Attention.tokensFirst(weights.matmul(value))
    }
}
