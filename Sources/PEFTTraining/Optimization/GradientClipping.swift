package import PEFTLayers
import Torch

/// Clipping of all gradients together by their global norm.
///
/// - Source: Pascanu et al. 2013; torch 2.13 `torch/nn/utils/clip_grad.py:clip_grad_norm_`.
package enum GradientClipping {
    /// Added to the norm in the quotient, as torch does.
    private static let epsilon = 1e-6

    /// Scales the gradients by `min(1, maxNorm / (norm + 1e-6))`.
    ///
    /// - Parameters:
    ///   - parameters: the trainable set, or this process's pieces of it.
    ///   - maxNorm: the largest norm that stays; 0 turns clipping off.
    ///   - combine: makes the norm of everything, and that of each tensor, from those of the pieces here; nil where every piece is
    ///     a tensor and all are here.
    /// - Returns: the norm of all gradients before clipping, and that of each tensor's, zero without one; waits for the
    ///   device.
    /// - Throws: `TorchError` if libtorch fails; what `combine` throws.
    package static func clip(
        _ parameters: [Parameter], maxNorm: Double, combine: (([Double]) throws -> Norms)? = nil
    ) throws -> Norms {
        let all = parameters.map(\.value.grad)
        let gradients = all.compactMap { $0 }
        var norms = try norms(all)
        if let combine { norms = try combine(norms.each) }
        let factor = maxNorm / (norms.total + epsilon)
        guard maxNorm > 0, factor < 1 else { return norms }
        try withoutGrad { () throws(TorchError) in
            for gradient in gradients {
                try gradient.multiplyInPlace(factor)
            }
        }
        return norms
    }

    /// The norm of all gradients and that of each.
    ///
    /// They are float64, so that pieces in several processes make the factor of one process.
    package typealias Norms = (total: Double, each: [Double])

    private static func norms(_ all: [Tensor?]) throws(TorchError) -> Norms {
        let gradients = all.compactMap { $0 }
        guard !gradients.isEmpty else { return (0, all.map { _ in 0 }) }
        var norms: [Tensor] = []
        for gradient in gradients {
            norms.append(try gradient.norm())
        }
        let stacked = try Tensor.stacked(norms)
        var found = try stacked.doubles()[...]
        let each = all.map { $0 == nil ? 0 : found.removeFirst() }
        return (try stacked.norm().item(), each)
    }
}
