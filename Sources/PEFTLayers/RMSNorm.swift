public import Torch

/// `y = w * x / sqrt(mean(x^2) + eps)`, over the last dimension.
///
/// The mean and the quotient are taken in float32 and rounded to the input's dtype before the product with w. Backward is float32
/// throughout and rounded once.
///
/// - Source: Zhang and Sennrich 2019, "Root Mean Square Layer Normalization";
///   transformers `models/llama/modeling_llama.py:LlamaRMSNorm.forward`.
public final class RMSNorm {
    /// The factor of each channel, `[hidden]`.
    public let weight: Parameter
    /// Added to the mean square.
    public let epsilon: Double
    /// The Hugging Face path of the layer: `model.norm`.
    public let path: String

    /// Makes the norm at `scope.weight`.
    ///
    /// - Throws: the source's error.
    public init(hiddenSize: Int, epsilon: Double, _ scope: Scope) throws {
        weight = try scope.parameter("weight", shape: [hiddenSize])
        self.epsilon = epsilon
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
        let (weight, kept) = (weight.value, try input.detach())
        return Recomputable(try self(input)) { [epsilon] () throws(TorchError) in
            try ElementwiseKernels().rmsNorm(
                kept, weight: weight.to(kept.dtype), epsilon: epsilon
            ).output
        }
    }

    private func normalize(_ input: Tensor) throws(TorchError) -> Tensor {
        let weight = weight.value
        let outputs = try Autograd.node("RMSNorm", inputs: [input, weight]) {
            () throws(TorchError) -> (outputs: [Tensor], pullback: Pullback) in
            let input = try input.detach()
            let kernels = ElementwiseKernels()
            let (output, inverse) = try kernels.rmsNorm(
                input, weight: weight.to(input.dtype), epsilon: epsilon)
            let pullback: Pullback = { gradients throws(TorchError) in
                guard let gradient = gradients[0] else { return [nil, nil] }
                let inputGradient = try kernels.rmsNormInputGradient(
                    outputGradient: gradient, input: input, weight: weight.to(input.dtype),
                    inverse: inverse)
                guard weight.requiresGrad else { return [inputGradient, nil] }
                let weightGradient = try kernels.rmsNormWeightGradient(
                    outputGradient: gradient, input: input, inverse: inverse)
                return [inputGradient, try weightGradient.to(weight.dtype)]
            }
            return ([output], pullback)
        }
        return outputs[0]
    }
}
