public import Torch

/// `silu(gate) * up`, element by element.
///
/// - Source: Shazeer 2020, "GLU Variants Improve Transformer".
public enum SwiGLU {
    /// Applies the gate.
    ///
    /// - Parameters:
    ///   - gate: `[tokens, intermediate]`.
    ///   - up: as `gate`.
    /// - Returns: the same shape and dtype.
    /// - Throws: `TorchError` if the shapes differ.
    /// - Memory: saves gate and up; `silu(gate)` is computed again in backward.
    public static func apply(gate: Tensor, up: Tensor) throws(TorchError) -> Tensor {
        let outputs = try Autograd.node("SwiGLU", inputs: [gate, up]) {
            () throws(TorchError) -> (outputs: [Tensor], pullback: Pullback) in
            let gate = try gate.detach()
            let up = try up.detach()
            let pullback: Pullback = { gradients throws(TorchError) in
                guard let gradient = gradients[0] else { return [nil, nil] }
                let upGradient = try gate.silu() * gradient
                let gateGradient = try gate.siluBackward(gradient: gradient * up)
                return [gateGradient, upGradient]
            }
            return ([try gate.silu() * up], pullback)
        }
        return outputs[0]
    }
}
