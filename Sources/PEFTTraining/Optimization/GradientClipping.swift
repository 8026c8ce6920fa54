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
    /// - Returns: the norm before clipping, which waits for the device.
    /// - Throws: `TorchError` if libtorch fails.
    package static func clip(_ parameters: [Parameter], maxNorm: Double) throws(TorchError)
        -> Double
    {
        let gradients = parameters.compactMap(\.value.grad)
        guard !gradients.isEmpty else { return 0 }
        var norms: [Tensor] = []
        for gradient in gradients {
            norms.append(try gradient.norm())
        }
        let norm = try Tensor.stacked(norms).norm().item()
        let factor = maxNorm / (norm + epsilon)
        guard maxNorm > 0, factor < 1 else { return norm }
        try withoutGrad { () throws(TorchError) in
            for gradient in gradients {
                try gradient.multiplyInPlace(factor)
            }
        }
        return norm
    }
}
