import CKernels
package import Torch

// N rows, C channels.

extension ElementwiseKernels {
    /// `output = (offset + weight) * input * inverse` with `inverse = 1 / sqrt(mean(input^2) + epsilon)`, row by row.
    ///
    /// - Parameters:
    ///   - input: `[..., C]`.
    ///   - weight: `[C]`, the input's dtype.
    ///   - offset: added to the weight in float32.
    ///   - roundsFirst: whether `input * inverse` is rounded to the input's dtype before the product with the weight.
    ///   - epsilon: added to the mean square.
    /// - Returns: the output, as the input; the inverse, `[N]`, float32, which backward needs.
    /// - Throws: `TorchError` if shapes or dtypes do not fit.
    package func rmsNorm(
        _ input: Tensor, weight: Tensor, offset: Double = 0, roundsFirst: Bool = true,
        epsilon: Double
    ) throws(TorchError) -> (output: Tensor, inverse: Tensor) {
        let elementType = try elementType(of: [input, weight], for: "RMSNorm")
        guard input.numDimensions > 0, [input.shape[input.numDimensions - 1]] == weight.shape else {
            throw refusal(of: [input, weight], by: "RMSNorm", "expected [..., C] and [C]")
        }
        guard input.device.isHost else {
            return try DeviceLayers.rmsNorm(
                input, weight: weight, offset: offset, roundsFirst: roundsFirst, epsilon: epsilon)
        }
        let shape = RowShape(input)
        let (input, weight) = (try input.contiguous(), try weight.contiguous())
        let output = try Tensor.empty(input.shape, dtype: input.dtype)
        let inverse = try Tensor.empty([shape.numRows])
        run(
            "rms_norm", on: [input, weight], to: [output, inverse], numBlocks: shape.numRows,
            numElements: input.numElements
        ) { addresses, rows in
            ckernels_rmsnorm_forward(
                instructionSet.rawValue, elementType, addresses[0], addresses[1], Float(offset),
                roundsFirst ? 1 : 0, Float(epsilon), Int64(shape.numChannels),
                Int64(rows.lowerBound), Int64(rows.upperBound),
                addresses[2], addresses[3]?.assumingMemoryBound(to: Float.self))
        }
        return (output, inverse)
    }

    /// `r (g - n mean(g n))` with `r` the inverse root, `n = input r`, `g = (offset + weight) outputGradient`, row by row.
    ///
    /// - Parameters:
    ///   - outputGradient: as the input.
    ///   - input: `[..., C]`, of the forward pass.
    ///   - weight: `[C]`, of the forward pass.
    ///   - offset: of the forward pass.
    ///   - inverse: `[N]`, from the forward pass.
    /// - Returns: the input's gradient, as the input.
    /// - Throws: `TorchError` if dtypes differ or libtorch cannot allocate.
    package func rmsNormInputGradient(
        outputGradient: Tensor, input: Tensor, weight: Tensor, offset: Double = 0, inverse: Tensor
    ) throws(TorchError) -> Tensor {
        let elementType = try elementType(of: [outputGradient, input, weight], for: "RMSNorm")
        precondition(outputGradient.shape == input.shape, "a gradient of another shape")
        guard input.device.isHost else {
            return try DeviceLayers.rmsNormInputGradient(
                outputGradient: outputGradient, input: input, weight: weight, offset: offset,
                inverse: inverse)
        }
        let shape = RowShape(input)
        let result = try Tensor.empty(input.shape, dtype: input.dtype)
        let operands = [
            try outputGradient.contiguous(), try input.contiguous(), try weight.contiguous(),
            inverse,
        ]
        run(
            "rms_norm", on: operands, to: [result], numBlocks: shape.numRows,
            numElements: input.numElements
        ) { addresses, rows in
            ckernels_rmsnorm_backward(
                instructionSet.rawValue, elementType, addresses[0], addresses[1], addresses[2],
                Float(offset), addresses[3]?.assumingMemoryBound(to: Float.self),
                Int64(shape.numChannels), Int64(rows.lowerBound), Int64(rows.upperBound),
                addresses[4])
        }
        return result
    }

    /// The sum over all rows of `outputGradient * input * inverse`, in float32.
    ///
    /// - Parameters:
    ///   - outputGradient: as the input.
    ///   - input: `[..., C]`, of the forward pass.
    ///   - inverse: `[N]`, from the forward pass.
    /// - Returns: the weight's gradient, `[C]`, float32.
    /// - Throws: `TorchError` if dtypes differ or libtorch cannot allocate.
    package func rmsNormWeightGradient(
        outputGradient: Tensor, input: Tensor, inverse: Tensor
    ) throws(TorchError) -> Tensor {
        let elementType = try elementType(of: [outputGradient, input], for: "RMSNorm")
        precondition(outputGradient.shape == input.shape, "a gradient of another shape")
        guard input.device.isHost else {
            return try DeviceLayers.rmsNormWeightGradient(
                outputGradient: outputGradient, input: input, inverse: inverse)
        }
        let shape = RowShape(input)
        let result = try Tensor.empty([shape.numChannels])
        let operands = [try outputGradient.contiguous(), try input.contiguous(), inverse]
        run(
            "rms_norm", on: operands, to: [result], numBlocks: shape.numChannels,
            numElements: input.numElements
        ) { addresses, channels in
            ckernels_rmsnorm_weight_gradient(
                instructionSet.rawValue, elementType, addresses[0], addresses[1],
                addresses[2]?.assumingMemoryBound(to: Float.self), Int64(shape.numRows),
                Int64(shape.numChannels), Int64(channels.lowerBound), Int64(channels.upperBound),
                addresses[3]?.assumingMemoryBound(to: Float.self))
        }
        return result
    }
}

/// A tensor taken as rows of its last dimension.
private struct RowShape {
    let numRows: Int
    let numChannels: Int

    init(_ tensor: Tensor) {
        let shape = tensor.shape
        numRows = shape.dropLast().reduce(1, *)
        numChannels = shape[shape.count - 1]
    }
}
