public import PEFTLayers
public import Torch

/// A low-rank update of a weight's direction beside a trained magnitude: `y = b + g (W x + s B A x)`, `g = m / ‖W + s B A‖`.
///
/// W is the frozen base in any storage, b its bias; A, B and s are those of a ``LoRA``. The norm is that of each of the weight's rows,
/// m `[outFeatures]` is trained in float32 and starts as the norm. The norm follows A and B, but gradients see it as a constant.
/// With dropout, `y = W x + b + (g - 1) W x' + g s B A x'` with `x' = dropout(x)`, as PEFT computes it.
///
/// - Source: Liu et al. 2024, "DoRA", equation 5, section 4.3; peft 0.21.2 `tuners/lora/dora.py:DoraLinearLayer.forward`,
///   `tuners/lora/variants.py:DoraLinearVariant.forward`.
///
/// Differs from PEFT: the norm's square is summed from three parts, `‖W‖² + 2 s (W Aᵀ) · B + s² (B A Aᵀ) · B`, the first of which is
/// computed once; so `W + s B A` is never made. It is that of the decoded weight in float32, which PEFT rounds to the quantization's
/// dtype.
public final class DoRA: LinearAdapter {
    /// The update of the direction.
    public let lora: LoRA
    /// The length of each row of the adapted weight, `[outFeatures]`, float32.
    public let magnitude: Parameter

    private let bias: Parameter?
    /// `‖W‖²` of each row, float32.
    private let squaredNorms: Tensor

    /// A, B and the magnitude.
    public var parameters: [Parameter] { lora.parameters + [magnitude] }

    /// Makes a DoRA on a layer whose weight is in memory; the layer computes what it did, unless A and B are both other than zero.
    ///
    /// - Parameters:
    ///   - lora: the update of the direction.
    ///   - weight: the layer's weight.
    ///   - bias: the layer's bias.
    /// - Throws: `TorchError` if memory does not suffice.
    /// - Memory: for a moment the weight in float32, twice.
    public init(
        _ lora: LoRA, on weight: any LinearWeight, bias: Parameter?
    ) throws(TorchError) {
        self.lora = lora
        self.bias = bias
        let wide = try weight.dequantized()
        squaredNorms = try (wide * wide).sum([1])
        magnitude = try Parameter(
            path: "base_model.model.\(lora.target.path).lora_magnitude_vector",
            value: Self.norms(of: wide, squared: squaredNorms, lora),
            isTrainable: lora.loraA.isTrainable)
    }

    /// The length of each row of `W + s B A`.
    private static func norms(
        of weight: Tensor, squared: Tensor, _ lora: LoRA
    ) throws(TorchError) -> Tensor {
        try withoutGrad { () throws(TorchError) in
            let (loraA, loraB) = (try lora.loraA.value.detach(), try lora.loraB.value.detach())
            let scaling = lora.target.scaling
            let cross = try weight.matmul(loraA.transposed()) * (2 * scaling)  // [out, r]
            let gram = try loraA.matmul(loraA.transposed()) * (scaling * scaling)  // [r, r]
            let added = try ((cross + loraB.matmul(gram)) * loraB).sum([1])
            return try (squared + added).sqrt()
        }
    }

    /// Scales the rows of the adapted weight.
    ///
    /// - Memory: autograd keeps the input, the sum of base and update, `[tokens, outFeatures]` in the compute dtype, and what ``LoRA``
    ///   keeps; for a moment the weight in float32. With dropout the base's product is computed a second time.
    public func apply(
        to input: Tensor, baseOutput: Tensor, weight: any LinearWeight, context: ForwardContext
    ) throws(TorchError) -> Tensor {
        let dtype = baseOutput.dtype
        let mask = try lora.dropoutMask(for: input, key: context.dropout)
        let update = try lora.update(of: input, mask: mask, addedTo: nil, dtype: dtype)
        let direction: Tensor
        if let mask {
            direction = try weight.apply(to: mask.dropout(input), outputDType: dtype)
        } else if let bias {
            direction = try baseOutput - bias.value.to(dtype)
        } else {
            direction = baseOutput
        }
        let norms = try Self.norms(of: weight.dequantized(), squared: squaredNorms, lora)
        return try scaled(
            baseOutput, direction: direction, update: update, norms: norms, dtype: input.dtype)
    }

    /// `y + (g - 1) d + g u` with `g = m / n`.
    private func scaled(
        _ baseOutput: Tensor, direction: Tensor, update: Tensor, norms: Tensor, dtype: DType
    ) throws(TorchError) -> Tensor {
        let magnitude = magnitude.value
        let inputs = [baseOutput, direction, update, magnitude]
        let outputs = try Autograd.node("DoRA", inputs: inputs) {
            () throws(TorchError) -> (outputs: [Tensor], pullback: Pullback) in
            let gain = try magnitude.detach() / norms
            let (direction, update) = (try direction.detach(), try update.detach())
            let output = try baseOutput.detach() + direction * (gain + -1) + update * gain
            let sum = try (direction + update).to(dtype)
            let pullback: Pullback = { gradients throws(TorchError) in
                guard let gradient = gradients[0] else { return [nil, nil, nil, nil] }
                let wide = try gradient.to(.float32)
                let (ofDirection, ofUpdate) = (try wide * (gain + -1), try wide * gain)
                let products = try wide * sum.to(.float32)
                let ofMagnitude = try products.reshape([-1, norms.shape[0]]).sum([0]) / norms
                return [wide, ofDirection, ofUpdate, ofMagnitude].map { $0 }
            }
            return ([try output.to(dtype)], pullback)
        }
        return outputs[0]
    }

    /// Whether B is zero and the magnitude is the weight's own.
    public func changesNothing() throws(TorchError) -> Bool {
        guard try lora.changesNothing() else { return false }
        return try magnitude.value.detach().isEqual(to: squaredNorms.sqrt())
    }

    /// The adapted weight, `g (W + s B A)`: float32 `[outFeatures, inFeatures]`, without history.
    ///
    /// - Throws: `TorchError` if memory does not suffice.
    /// - Memory: two new tensors of the weight's size in float32.
    public func merged(into weight: any LinearWeight) throws(TorchError) -> Tensor {
        try merged(base: weight.dequantized())
    }

    /// `g (W + s B A)`.
    public func merged(into weight: Tensor) throws(TorchError) -> Tensor? {
        try merged(base: weight)
    }

    private func merged(base: Tensor) throws(TorchError) -> Tensor {
        let norms = try Self.norms(of: base, squared: (base * base).sum([1]), lora)
        let gain = try magnitude.value.detach() / norms
        return try (base + lora.delta()) * gain.unsqueezed(1)
    }
}
