public import Torch

/// Rotary position embedding in the half-split layout of Hugging Face.
///
/// For channel pair (i, i + D/2) and position p: `(a, b) -> (a cos t - b sin t, b cos t + a sin t)` with
/// `t = p * theta^(-2i/D)`.
///
/// - Source: Su et al. 2021, "RoFormer", equation 34; transformers
///   `models/llama/modeling_llama.py:apply_rotary_pos_emb`.
public struct RotaryEmbedding {
    private let inverseFrequencies: Tensor

    /// Prepares the frequencies.
    ///
    /// - Parameters:
    ///   - headDim: channels of a head; even.
    ///   - theta: base of the frequencies.
    /// - Throws: `TorchError` if libtorch cannot allocate.
    public init(headDim: Int, theta: Double) throws(TorchError) {
        precondition(headDim.isMultiple(of: 2), "rotary embedding needs an even head size")
        // As transformers computes them: in float32, the exponent first.
        let channels = try Tensor.arange(headDim / 2).to(.float32) * 2
        let exponents = try channels / Tensor.full([1], Double(headDim))
        let logTheta = try Tensor.full([1], theta)
        inverseFrequencies = try Tensor.ones([1]) / logTheta.raised(to: exponents)
    }

    /// The rotation of each token of a layout, computed in host memory.
    ///
    /// - Throws: `TorchError` if libtorch cannot allocate.
    public func rotation(
        for layout: SequenceLayout, dtype: DType, on device: Device = .cpu
    ) throws(TorchError) -> Rotation {
        let positions = try Tensor(layout.positions, shape: [layout.numTokens, 1]).to(.float32)
        let angles = try (positions * inverseFrequencies).unsqueezed(1)  // [N, 1, D / 2]
        return Rotation(
            cosine: try angles.cos().to(dtype).to(device),
            sine: try angles.sin().to(dtype).to(device))
    }

    /// The rotation of every token of a batch, shared by all layers.
    public struct Rotation {
        let cosine: Tensor
        let sine: Tensor

        /// Rotates queries or keys, in float32, rounded once.
        ///
        /// - Parameter states: `[tokens, heads, headDim]`, the dtype of the rotation.
        /// - Returns: the same shape and dtype, contiguous.
        /// - Throws: `TorchError` if shapes or dtypes do not fit.
        /// - Memory: saves nothing; backward rotates by the opposite angle.
        public func callAsFunction(_ states: Tensor) throws(TorchError) -> Tensor {
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
