package import PEFTLayers
package import Torch

/// Clipping of all gradients together by their global norm.
///
/// - Source: Pascanu et al. 2013; torch 2.13 `torch/nn/utils/clip_grad.py:clip_grad_norm_`.
package enum GradientClipping {
    /// Added to the norm in the quotient, as torch does.
    private static let epsilon = 1e-6

    /// Scales the gradients by `min(1, maxNorm / (norm + 1e-6))`.
    ///
    /// - Parameters:
    ///   - parameters: the trainable set.
    ///   - maxNorm: the largest norm that stays; 0 turns clipping off.
    /// - Returns: the norm of all gradients before clipping, and that of each parameter's, zero without one; waits for the
    ///   device.
    /// - Throws: `TorchError` if libtorch fails.
    package static func clip(_ parameters: [Parameter], maxNorm: Double) throws(TorchError)
        -> (total: Double, each: [Float])
    {
        let all = parameters.map(\.value.grad)
        let gradients = all.compactMap { $0 }
        guard !gradients.isEmpty else { return (0, all.map { _ in 0 }) }
        var norms: [Tensor] = []
        for gradient in gradients {
            norms.append(try gradient.norm())
        }
        let stacked = try Tensor.stacked(norms)
        let norm = try stacked.norm().item()
        var found = try stacked.floats()[...]
        let each = all.map { $0 == nil ? 0 : found.removeFirst() }
        let factor = maxNorm / (norm + epsilon)
        guard maxNorm > 0, factor < 1 else { return (norm, each) }
        try withoutGrad { () throws(TorchError) in
            for gradient in gradients {
                try gradient.multiplyInPlace(factor)
            }
        }
        return (norm, each)
    }
}
