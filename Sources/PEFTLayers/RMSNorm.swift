public import Torch

/// `y = (offset + w) * x / sqrt(mean(x^2) + eps)`, over the last dimension.
///
/// The mean and the quotient are taken in float32. Families differ in what is rounded then: Llama's rounds the quotient to the
/// input's dtype before the product with w, OLMo 2's and Gemma's only the product. Backward is float32 throughout and rounded once.
///
/// - Source: Zhang and Sennrich 2019, "Root Mean Square Layer Normalization";
///   transformers `models/llama/modeling_llama.py:LlamaRMSNorm.forward`, `models/gemma2/modeling_gemma2.py:Gemma2RMSNorm.forward`.
public final class RMSNorm: Normalization {
    /// The factor of each channel, `[hidden]`.
    public let weight: Parameter
    /// Added to the mean square.
    public let epsilon: Double
    /// The Hugging Face path of the layer: `model.norm`.
    public let path: String
    private let offset: Double
    private let roundsFirst: Bool

    /// Makes the norm at `scope.weight`.
    ///
    /// - Parameters:
    ///   - hiddenSize: channels.
    ///   - epsilon: added to the mean square.
    ///   - offset: added to the weight: 1 where the files hold what differs from one.
    ///   - roundsFirst: whether the quotient is rounded before the product with the weight.
    ///   - scope: the layer's place.
    /// - Throws: the source's error.
    public init(
        hiddenSize: Int, epsilon: Double, offset: Double = 0, roundsFirst: Bool = true,
        _ scope: Scope
    ) throws {
        weight = try scope.parameter("weight", shape: [hiddenSize])
        self.epsilon = epsilon
        self.offset = offset
        self.roundsFirst = roundsFirst
        path = scope.path
    }

    /// Normalizes each row.
    ///
    /// - Parameter input: `[tokens, hidden]`, float32, bfloat16 or float16; the weight is taken in this dtype.
    /// - Returns: the same shape and dtype.
    /// - Throws: `TorchError` if shapes or dtypes do not fit.
    /// - Memory: saves the input, which the residual stream holds anyway, and one float32 a row.
    public func callAsFunction(_ input: Tensor) throws(TorchError) -> Tensor {
        try Trace.layer(path) { () throws(TorchError) in try normalize(input) }
    }

    /// The same, for layers that need not keep it: computed again from the input, which this layer keeps.
    ///
    /// - Throws: `TorchError` if shapes or dtypes do not fit.
    public func recomputable(_ input: Tensor) throws(TorchError) -> Recomputable {
        let kept = try input.detach()
        return Recomputable(try self(input)) { () throws(TorchError) in
            try self.forward(kept).output
        }
    }

    private func normalize(_ input: Tensor) throws(TorchError) -> Tensor {
        let weight = weight.value
        let outputs = try Autograd.node("RMSNorm", inputs: [input, weight]) {
            () throws(TorchError) -> (outputs: [Tensor], pullback: Pullback) in
            let input = try input.detach()
            let kernels = ElementwiseKernels()
            let (output, inverse) = try forward(input)
            let pullback: Pullback = { gradients throws(TorchError) in
                guard let gradient = gradients[0] else { return [nil, nil] }
                let inputGradient = try kernels.rmsNormInputGradient(
                    outputGradient: gradient, input: input, weight: weight.to(input.dtype),
                    offset: self.offset, inverse: inverse)
                guard weight.requiresGrad else { return [inputGradient, nil] }
                let weightGradient = try kernels.rmsNormWeightGradient(
                    outputGradient: gradient, input: input, inverse: inverse)
                return [inputGradient, try weightGradient.to(weight.dtype)]
            }
            return ([output], pullback)
        }
        return outputs[0]
    }

    private func forward(
        _ input: Tensor
    ) throws(TorchError) -> (output: Tensor, inverse: Tensor) {
        try ElementwiseKernels().rmsNorm(
            input, weight: weight.value.to(input.dtype), offset: offset, roundsFirst: roundsFirst,
            epsilon: epsilon)
    }
}
