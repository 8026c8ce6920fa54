import CKernels
package import Torch

/// The constants of an update of AdamW.
package struct AdamWConstants: Sendable {
    /// `1 - b1`.
    package var firstWeight: Float
    /// `b2`.
    package var secondDecay: Float
    /// `1 - b2`.
    package var secondWeight: Float
    /// `1 / sqrt(1 - b2^t)`.
    package var rootScale: Float
    /// Added to the scaled root.
    package var epsilon: Float
    /// `1 - lr wd`.
    package var decay: Float
    /// `lr / (1 - b1^t)`.
    package var rate: Float

    /// Takes the constants.
    package init(
        firstWeight: Float, secondDecay: Float, secondWeight: Float, rootScale: Float,
        epsilon: Float, decay: Float, rate: Float
    ) {
        (self.firstWeight, self.secondDecay, self.secondWeight) =
            (firstWeight, secondDecay, secondWeight)
        (self.rootScale, self.epsilon, self.decay, self.rate) = (rootScale, epsilon, decay, rate)
    }
}

extension ElementwiseKernels {
    /// Updates a tensor and its two moments in place, in one pass.
    ///
    /// `m = m + firstWeight (g - m)`, `v = secondDecay v + secondWeight g^2`,
    /// `p = decay p - rate m / (rootScale sqrt(v) + epsilon)`.
    ///
    /// - Parameters:
    ///   - parameter: float32, without gaps, as the other three.
    ///   - gradient: of the parameter's shape.
    ///   - moments: the first and the second, of the parameter's shape.
    ///   - constants: of this update.
    /// - Throws: `TorchError` if shapes, dtypes or layouts do not fit.
    package func updateByAdamW(
        _ parameter: Tensor, gradient: Tensor, moments: (first: Tensor, second: Tensor),
        constants: AdamWConstants
    ) throws(TorchError) {
        let updated = [parameter, moments.first, moments.second]
        let all = [gradient] + updated
        guard all.allSatisfy({ $0.shape == parameter.shape && $0.dtype == .float32 }) else {
            throw refusal(of: all, by: "AdamW", "expected float32 of one shape")
        }
        guard updated.allSatisfy(\.isContiguous) else {
            throw refusal(of: updated, by: "AdamW", "expected tensors without gaps")
        }
        guard parameter.device.isHost else {
            return try updateByLibtorch(
                parameter, gradient: gradient, moments: moments, constants: constants)
        }
        let count = parameter.numElements
        let constants = CKernelsAdamW(
            first_weight: constants.firstWeight, second_decay: constants.secondDecay,
            second_weight: constants.secondWeight, root_scale: constants.rootScale,
            epsilon: constants.epsilon, decay: constants.decay, rate: constants.rate)
        run(
            "adamw", on: [try gradient.contiguous()], to: updated, numBlocks: count,
            numElements: count
        ) { addresses, elements in
            let numbers = addresses.map { $0?.assumingMemoryBound(to: Float.self) }
            return withUnsafePointer(to: constants) {
                ckernels_adamw_update(
                    instructionSet.rawValue, $0, numbers[0], Int64(elements.lowerBound),
                    Int64(elements.upperBound), numbers[1], numbers[2], numbers[3])
            }
        }
    }

    /// The same on a device.
    private func updateByLibtorch(
        _ parameter: Tensor, gradient: Tensor, moments: (first: Tensor, second: Tensor),
        constants: AdamWConstants
    ) throws(TorchError) {
        try parameter.multiplyInPlace(Double(constants.decay))
        try moments.first.interpolateInPlace(
            to: gradient, weight: Double(constants.firstWeight))
        try moments.second.multiplyInPlace(Double(constants.secondDecay))
        try moments.second.addProductInPlace(
            gradient, gradient, scaledBy: Double(constants.secondWeight))
        let root = try moments.second.sqrt()
        try root.multiplyInPlace(Double(constants.rootScale))
        try parameter.addQuotientInPlace(
            moments.first, root + Double(constants.epsilon), scaledBy: -Double(constants.rate))
    }
}
