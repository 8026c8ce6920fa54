public import Torch

// N tokens, D rotated channels of a head.

/// Rotary position embedding in the half-split layout of Hugging Face.
///
/// For channel pair (i, i + D/2) and position p: `(a, b) -> c (a cos t - b sin t, b cos t + a sin t)` with `t = p f(i)`, where
/// ``RotaryScaling`` says what the frequencies f and the factor c are; without scaling `f(i) = theta^(-2i/D)` and `c = 1`.
///
/// - Source: Su et al. 2021, "RoFormer", equation 34; transformers
///   `models/llama/modeling_llama.py:apply_rotary_pos_emb`.
public struct RotaryEmbedding {
    private let numChannels: Int
    private let theta: Double
    private let scaling: RotaryScaling
    /// The frequencies of short sequences.
    private let inverseFrequencies: Tensor

    /// Prepares the frequencies.
    ///
    /// - Parameters:
    ///   - headDim: rotated channels of a head, the first ones; even.
    ///   - theta: base of the frequencies.
    ///   - scaling: what changes them.
    /// - Throws: `TorchError` if libtorch cannot allocate.
    public init(
        headDim: Int, theta: Double, scaling: RotaryScaling = .none
    ) throws(TorchError) {
        precondition(headDim.isMultiple(of: 2), "rotary embedding needs an even head size")
        numChannels = headDim
        self.theta = theta
        self.scaling = scaling
        inverseFrequencies = try scaling.inverseFrequencies(
            numChannels: headDim, theta: theta, length: scaling.representative(of: 0))
    }

    /// Whether tokens are rotated alike in sequences of two lengths: if not, keys of the one cannot be used in the other.
    public func isSame(length: Int, otherLength: Int) -> Bool {
        scaling.representative(of: length) == scaling.representative(of: otherLength)
    }

    /// The rotation of each token of a layout, computed in host memory.
    ///
    /// Scalings that depend on a sequence's length see that of each segment, as if it were alone.
    ///
    /// - Throws: `TorchError` if libtorch cannot allocate.
    public func rotation(
        for layout: SequenceLayout, dtype: DType, on device: Device = .cpu
    ) throws(TorchError) -> Rotation {
        let positions = try Tensor(layout.positions, shape: [layout.numTokens, 1]).to(.float32)
        let angles = try (positions * frequencies(for: layout)).unsqueezed(1)  // [N, 1, D / 2]
        var (cosine, sine) = (try angles.cos(), try angles.sin())
        if scaling.attentionFactor != 1 {
            (cosine, sine) = (
                try cosine * scaling.attentionFactor, try sine * scaling.attentionFactor
            )
        }
        return Rotation(
            cosine: try cosine.to(dtype).to(device), sine: try sine.to(dtype).to(device))
    }

    /// The frequencies of all tokens, `[D / 2]`, or of each, `[N, D / 2]`.
    private func frequencies(for layout: SequenceLayout) throws(TorchError) -> Tensor {
        let lengths = layout.rowLengths.map(scaling.representative)
        let short = scaling.representative(of: 0)
        guard lengths.contains(where: { $0 != short }) else { return inverseFrequencies }
        var rows: [Tensor] = []
        for (length, numTokens) in zip(lengths, layout.segmentLengths) {
            let row =
                length == short
                ? inverseFrequencies
                : try scaling.inverseFrequencies(
                    numChannels: numChannels, theta: theta, length: length)
            rows.append(try row.unsqueezed(0).expanded([numTokens, numChannels / 2]))
        }
        return try .concatenated(rows)
    }

    /// The rotation of every token of a batch, shared by all layers.
    public struct Rotation {
        let cosine: Tensor
        let sine: Tensor

        /// Rotates queries or keys, in float32, rounded once; channels beyond the rotated ones stay.
        ///
        /// - Parameter states: `[tokens, heads, headDim]`, the dtype of the rotation.
        /// - Returns: the same shape and dtype, contiguous.
        /// - Throws: `TorchError` if shapes or dtypes do not fit.
        /// - Memory: saves nothing; backward rotates by the opposite angle.
        public func callAsFunction(_ states: Tensor) throws(TorchError) -> Tensor {
            let (rotated, all) = (2 * cosine.shape[2], states.shape[2])
            guard rotated < all else { return try rotateAll(states) }
            return try .concatenated(
                [
                    rotateAll(states.narrow(2, 0, rotated)),
                    states.narrow(2, rotated, all - rotated),
                ], dim: 2)
        }

        private func rotateAll(_ states: Tensor) throws(TorchError) -> Tensor {
            let outputs = try Autograd.node("rotary embedding", inputs: [states]) {
                () throws(TorchError) -> (outputs: [Tensor], pullback: Pullback) in
                let pullback: Pullback = { gradients throws(TorchError) in
                    guard let gradient = gradients[0] else { return [nil] }
                    return [try rotate(gradient, isInverse: true)]
                }
                return ([try rotate(states.detach(), isInverse: false)], pullback)
            }
            return outputs[0]
        }

        private func rotate(_ states: Tensor, isInverse: Bool) throws(TorchError) -> Tensor {
            try ElementwiseKernels().rotate(
                states, cosine: cosine, sine: sine, isInverse: isInverse)
        }
    }
}
