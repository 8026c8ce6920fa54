package import PEFTLayers
package import Torch

/// CorDA: the weight's components in the order of what they do on rows of data.
///
/// With the covariance C of the layer's input and `W C = U S Vᵀ`: `A = √(S_r / s) (Vᵀ C⁻¹)_r`, `B = U_r √(S_r / s)`, at the r largest
/// singular values (`ipm`) or the r smallest (`kpm`); `W - s B A` remains.
///
/// - Memory: `[inFeatures, inFeatures]` in float32.
/// - Source: Yang et al. 2024, "CorDA: Context-Oriented Decomposition Adaptation"; peft 0.21.2
///   `tuners/lora/corda.py:calib_cov_distribution, collect_eigens_for_layer`, `tuners/lora/layer.py:corda_init`.
package struct InputCovariance {
    private var sum: Tensor?
    private var numRows = 0

    /// Of nothing yet.
    package init() {}

    /// Adds the states of one row of data, divided by the largest of their elements.
    ///
    /// - Parameter states: `[tokens, inFeatures]`, any float dtype.
    /// - Throws: `TorchError` if memory does not suffice.
    package mutating func add(_ states: Tensor) throws(TorchError) {
        let values = try states.to(.float32)
        let scaled = try values / values.max().abs()
        let product = try scaled.transposed().matmul(scaled)
        numRows += 1
        if let sum { try sum.addInPlace(product) } else { sum = product }
    }

    /// The mean over the rows; nil if there was none, or if an element is not finite.
    package func mean() throws(TorchError) -> Tensor? {
        guard let sum, try sum.allFinite() else { return nil }
        return try sum * (1 / Double(numRows))
    }
}

extension LoRAConfig {
    /// The start of a layer by CorDA.
    ///
    /// - Parameters:
    ///   - target: the layer.
    ///   - weight: `[outFeatures, inFeatures]`, any float dtype.
    ///   - covariance: `[inFeatures, inFeatures]`, float32.
    /// - Returns: the start; float32.
    /// - Throws: `TorchError` for a covariance that cannot be inverted, or if memory does not suffice.
    package func cordaStart(
        of target: LoRATarget, weight: Tensor, covariance: Tensor
    ) throws(TorchError) -> LowRankStart {
        let (regular, inverse) = try Self.invertible(covariance)
        let (u, s, vt) = try weight.to(.float32).matmul(regular).svd()
        let first =
            switch (cordaConfig ?? CorDAConfig()).method {
            case .ipm: 0
            case .kpm: s.shape[0] - target.rank
            }
        let update = try Self.principal(
            (
                u: u.narrow(1, first, target.rank), s: s.narrow(0, first, target.rank),
                vt: vt.narrow(0, first, target.rank).matmul(inverse)
            ), target.rank, target.scaling)
        return LowRankStart(update: update, subtracted: update)
    }

    /// The covariance with as much of its mean variance on the diagonal as its inverse needs, and the inverse.
    private static func invertible(
        _ covariance: Tensor
    ) throws(TorchError) -> (Tensor, Tensor) {
        let size = covariance.shape[0]
        let indices = try Tensor.arange(size)
        let identity = try Tensor.zeros([size, size])
            .reshape([-1]).indexAdded(
                0, (indices * Double(size + 1)).to(.int64), Tensor.ones([size])
            )
            .reshape([size, size])
        let meanVariance = try (covariance * identity).sum() * (1 / Double(size))
        var damping = 0.01
        while true {
            let regular = try covariance + identity * meanVariance * damping
            let inverse = try regular.inverse()
            let error = try (regular.matmul(inverse) - identity).norm().item()
            // A covariance of zeros, or of what is not finite, has no inverse whatever the damping.
            if error < 0.05 || !error.isFinite { return (regular, inverse) }
            damping *= 2
        }
    }
}
