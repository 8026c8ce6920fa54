public import Torch

/// `y = w * x / sqrt(mean(x^2) + eps)`, over the last dimension.
///
/// The mean and the quotient are taken in float32 and rounded to the input's dtype before the product with w.
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
    /// - Parameter input: `[tokens, hidden]`, float32, bfloat16 or float16.
    /// - Returns: the same shape and dtype.
    /// - Throws: `TorchError` if the shapes do not fit.
    /// - Memory: saves the input, which the residual stream holds anyway, and one float32 a row.
    public func callAsFunction(_ input: Tensor) throws(TorchError) -> Tensor {
        try Trace.layer(path) { () throws(TorchError) in try normalize(input) }
    }

    private func normalize(_ input: Tensor) throws(TorchError) -> Tensor {
        let weight = weight.value
        let outputs = try Autograd.node("RMSNorm", inputs: [input, weight]) {
            () throws(TorchError) -> (outputs: [Tensor], pullback: Pullback) in
            let input = try input.detach()
            let wide = try input.to(.float32)
            let meanSquare = try wide.power(2).mean([-1], keepDims: true)
            let inverse = try (meanSquare + epsilon).rsqrt()
            let normalized = try (wide * inverse).to(input.dtype)
            let output = try normalized * weight
            let pullback: Pullback = { gradients throws(TorchError) in
                guard let gradient = gradients[0] else { return [nil, nil] }
                return try Self.backward(
                    gradient: gradient, input: input, inverse: inverse, weight: weight)
            }
            return ([output], pullback)
        }
        return outputs[0]
    }

    /// `dx = r (g - n mean(g n))` with `r` the inverse root, `n = x r`, `g = w dy`; `dw = sum(dy n)`.
    private static func backward(
        gradient: Tensor, input: Tensor, inverse: Tensor, weight: Tensor
    ) throws(TorchError) -> [Tensor?] {
        let normalized = try input.to(.float32) * inverse
        let scaled = try (gradient * weight).to(.float32)
        let projection = try (scaled * normalized).mean([-1], keepDims: true)
        let centred = try scaled - (normalized * projection)
        let inputGradient = try (centred * inverse).to(input.dtype)
        guard weight.requiresGrad else { return [inputGradient, nil] }
        let weightGradient = try (gradient.to(.float32) * normalized).sum([0])
        return [inputGradient, try weightGradient.to(weight.dtype)]
    }
}
