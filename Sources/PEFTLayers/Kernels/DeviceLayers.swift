import Torch

// N tokens, C channels, H heads, D channels of a head.

/// Layers without products for tensors that our kernels do not reach, in libtorch's operations on the tensors' device.
///
/// The equations, the float32 in between and the roundings are those of ``ElementwiseKernels``, whose methods call these and describe
/// them; sums may differ in their order.
enum DeviceLayers {
    /// The output, as the input, and the inverse root of each row, `[N]`.
    static func rmsNorm(
        _ input: Tensor, weight: Tensor, offset: Double, roundsFirst: Bool, epsilon: Double
    ) throws(TorchError) -> (output: Tensor, inverse: Tensor) {
        let wide = try input.to(.float32)
        let inverse = try ((wide * wide).mean([-1], keepDims: true) + epsilon).rsqrt()
        var normalized = try wide * inverse
        if roundsFirst { normalized = try normalized.to(input.dtype).to(.float32) }
        let output = try (normalized * (weight.to(.float32) + offset)).to(input.dtype)
        return (output, try inverse.reshape([-1]))
    }

    static func rmsNormInputGradient(
        outputGradient: Tensor, input: Tensor, weight: Tensor, offset: Double, inverse: Tensor
    ) throws(TorchError) -> Tensor {
        let root = try inverse.reshape(input.shape.dropLast() + [1])
        let normalized = try input.to(.float32) * root
        let gradient = try outputGradient.to(.float32) * (weight.to(.float32) + offset)
        let mean = try (gradient * normalized).mean([-1], keepDims: true)
        return try ((gradient - normalized * mean) * root).to(input.dtype)
    }

    static func rmsNormWeightGradient(
        outputGradient: Tensor, input: Tensor, inverse: Tensor
    ) throws(TorchError) -> Tensor {
        let normalized = try input.to(.float32) * inverse.reshape(input.shape.dropLast() + [1])
        let products = try outputGradient.to(.float32) * normalized
        return try products.reshape([-1, input.shape[input.numDimensions - 1]]).sum([0])
    }

    /// `[N, H, D]`, with cosine and sine `[N, 1, D / 2]`.
    static func rotate(
        _ states: Tensor, cosine: Tensor, sine: Tensor, isInverse: Bool
    ) throws(TorchError) -> Tensor {
        let half = states.shape[2] / 2
        let wide = try states.to(.float32)
        let (a, b) = (try wide.narrow(2, 0, half), try wide.narrow(2, half, half))
        let cosine = try cosine.to(.float32)
        let sine = try sine.to(.float32) * (isInverse ? -1 : 1)
        let rotated = try Tensor.concatenated(
            [try a * cosine - b * sine, try b * cosine + a * sine], dim: 2)
        return try rotated.to(states.dtype)
    }

    static func swiGLU(gate: Tensor, up: Tensor) throws(TorchError) -> Tensor {
        try (gate.to(.float32).silu() * up.to(.float32)).to(gate.dtype)
    }

    static func swiGLUGradients(
        outputGradient: Tensor, gate: Tensor, up: Tensor
    ) throws(TorchError) -> (gate: Tensor, up: Tensor) {
        let gradient = try outputGradient.to(.float32)
        let wide = try gate.to(.float32)
        let sigmoid = try wide.sigmoid()
        let slope = try sigmoid * (wide - wide * sigmoid + 1)
        return (
            try (gradient * up.to(.float32) * slope).to(gate.dtype),
            try (gradient * wide * sigmoid).to(gate.dtype)
        )
    }
}
