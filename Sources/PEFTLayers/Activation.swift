public import Torch

/// An activation function, by the name that `config.json` gives it.
///
/// - Source: transformers `activations.py:ACT2CLS`; Hendrycks and Gimpel 2016, "Gaussian Error Linear Units".
public enum Activation: String, Sendable, CaseIterable {
    /// `x / (1 + exp(-x))`.
    case silu
    /// The same, under its other name.
    case swish
    /// `x Phi(x)` with the normal distribution function.
    case gelu
    /// `gelu` with its approximation by tanh.
    case geluPyTorchTanh = "gelu_pytorch_tanh"
    /// The same, under the name of GPT-2.
    case geluNew = "gelu_new"
    /// The same, under the name of a fused kernel.
    case geluFast = "gelu_fast"

    /// Applies the function to every element.
    ///
    /// - Parameter input: any shape, float32, bfloat16 or float16.
    /// - Returns: the same shape and dtype.
    /// - Throws: `TorchError` if memory does not suffice.
    public func callAsFunction(_ input: Tensor) throws(TorchError) -> Tensor {
        switch self {
        case .silu, .swish: try input.silu()
        case .gelu: try input.gelu()
        case .geluPyTorchTanh, .geluNew, .geluFast: try input.gelu(usesTanh: true)
        }
    }

    /// `activation(gate) * up`, element by element.
    ///
    /// ``SwiGLU`` where the activation is SiLU; else by libtorch, which rounds the activation too.
    ///
    /// - Parameters:
    ///   - gate: `[tokens, intermediate]`, float32, bfloat16 or float16.
    ///   - up: as `gate`.
    /// - Returns: the same shape and dtype, for a layer that may compute it again.
    /// - Throws: `TorchError` if shapes or dtypes differ.
    /// - Memory: saves gate and up; other activations than SiLU are kept too.
    public func gated(gate: Tensor, up: Tensor) throws(TorchError) -> Recomputable {
        guard self != .silu, self != .swish else {
            return try SwiGLU.recomputable(gate: gate, up: up)
        }
        let (keptGate, keptUp) = (try gate.detach(), try up.detach())
        return Recomputable(try self(gate) * up) { () throws(TorchError) in
            try withoutGrad { () throws(TorchError) in try self(keptGate) * keptUp }
        }
    }
}
