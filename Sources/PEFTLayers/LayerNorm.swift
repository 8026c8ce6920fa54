public import Torch

/// `y = w * (x - mean(x)) / sqrt(var(x) + eps) + b`, over the last dimension, as libtorch computes it.
///
/// - Source: Ba, Kiros, Hinton 2016, "Layer Normalization".
public final class LayerNorm: Normalization {
    /// The factor of each channel, `[hidden]`.
    public let weight: Parameter
    /// The offset of each channel, `[hidden]`.
    public let bias: Parameter
    /// Added to the variance.
    public let epsilon: Double
    /// The Hugging Face path of the layer: `transformer.ln_f`.
    public let path: String

    /// Makes the norm at `scope.weight` and `scope.bias`.
    ///
    /// - Throws: the source's error.
    public init(hiddenSize: Int, epsilon: Double, _ scope: Scope) throws {
        weight = try scope.parameter("weight", shape: [hiddenSize])
        bias = try scope.parameter("bias", shape: [hiddenSize])
        self.epsilon = epsilon
        path = scope.path
    }

    /// Normalizes each row; weight and bias are taken in the input's dtype.
    ///
    /// - Memory: saves the input, which the residual stream holds anyway, and two float32 a row.
    public func callAsFunction(_ input: Tensor) throws(TorchError) -> Tensor {
        try Trace.layer(path) { () throws(TorchError) in
            try input.layerNorm(
                weight: weight.value.to(input.dtype), bias: bias.value.to(input.dtype),
                epsilon: epsilon)
        }
    }

    /// The same, computed again from the input.
    public func recomputable(_ input: Tensor) throws(TorchError) -> Recomputable {
        let kept = try input.detach()
        return Recomputable(try self(input)) { () throws(TorchError) in
            try withoutGrad { () throws(TorchError) in try self(kept) }
        }
    }
}
