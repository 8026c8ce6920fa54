public import Torch

/// `silu(gate) * up`, element by element, with `silu(x) = x / (1 + exp(-x))`.
///
/// Computed in float32 and rounded once; transformers rounds silu too where the dtype is narrower.
///
/// - Source: Shazeer 2020, "GLU Variants Improve Transformer".
public enum SwiGLU {
    /// Applies the gate.
    ///
    /// - Parameters:
    ///   - gate: `[tokens, intermediate]`, float32, bfloat16 or float16.
    ///   - up: as `gate`.
    /// - Returns: the same shape and dtype.
    /// - Throws: `TorchError` if shapes or dtypes differ.
    /// - Memory: saves gate and up; `silu(gate)` is computed again in backward.
    public static func apply(gate: Tensor, up: Tensor) throws(TorchError) -> Tensor {
        let outputs = try Autograd.node("SwiGLU", inputs: [gate, up]) {
            () throws(TorchError) -> (outputs: [Tensor], pullback: Pullback) in
            let gate = try gate.detach()
            let up = try up.detach()
            let kernels = ElementwiseKernels()
            let pullback: Pullback = { gradients throws(TorchError) in
                guard let gradient = gradients[0] else { return [nil, nil] }
                let result = try kernels.swiGLUGradients(
                    outputGradient: gradient, gate: gate, up: up)
                return [result.gate, result.up]
            }
            return ([try kernels.swiGLU(gate: gate, up: up)], pullback)
        }
        return outputs[0]
    }

    /// The same, for a layer that need not keep it: computed again from gate and up, which this one keeps.
    ///
    /// - Throws: `TorchError` if shapes or dtypes differ.
    public static func recomputable(gate: Tensor, up: Tensor) throws(TorchError) -> Recomputable {
        let (keptGate, keptUp) = (try gate.detach(), try up.detach())
        return Recomputable(try apply(gate: gate, up: up)) { () throws(TorchError) in
            try ElementwiseKernels().swiGLU(gate: keptGate, up: keptUp)
        }
    }
}
