public import PEFTLayers
public import Torch

/// A LoRA whose B has a bias: `y = W x + s (B A dropout(x) + c)`.
///
/// c `[outFeatures]` is trained in float32.
///
/// - Source: peft 0.21.2 `tuners/lora/layer.py:LoraLayer.update_layer`, where `lora_B` has a bias with `lora_bias=True`.
public final class BiasedLoRA: LinearAdapter {
    /// The update without the bias.
    public let lora: LoRA
    /// The bias c, `[outFeatures]`, float32.
    public let bias: Parameter

    /// A, B and the bias.
    public var parameters: [Parameter] { lora.parameters + [bias] }

    /// Gives a LoRA a bias of zero, or, where all starts at random, of uniform numbers in ±1/√r.
    ///
    /// - Parameters:
    ///   - lora: the update.
    ///   - seed: with the path, decides random numbers.
    ///   - isRandom: whether A and B started at random, see ``LoRAInitialization/random``.
    /// - Throws: `TorchError` if libtorch cannot allocate.
    public init(_ lora: LoRA, seed: UInt64, isRandom: Bool = false) throws(TorchError) {
        self.lora = lora
        let loraB = lora.loraB
        let shape = [loraB.value.shape[0]]
        let path = loraB.path.dropLast("weight".count) + "bias"
        let bound = isRandom ? 1 / Double(lora.target.rank).squareRoot() : 0
        let value = try Tensor.uniform(
            shape, from: -bound, to: bound,
            generator: Generator(seed: StableHash.of(seed, "\(path)")))
        bias = try Parameter(
            path: String(path), value: value.to(loraB.value.device),
            isTrainable: loraB.isTrainable)
    }

    /// Adds the update and its bias to the base's output.
    ///
    /// - Memory: as ``LoRA/apply(to:baseOutput:weight:context:)``.
    public func apply(
        to input: Tensor, baseOutput: Tensor, weight: any LinearWeight, context: ForwardContext
    ) throws(TorchError) -> Tensor {
        let shift = try (bias.value * lora.target.scaling).to(baseOutput.dtype)
        return try lora.apply(
            to: input, baseOutput: baseOutput + shift, weight: weight, context: context)
    }

    /// `W + s B A`.
    public func merged(into weight: Tensor) throws(TorchError) -> Tensor? {
        try lora.merged(into: weight)
    }

    /// `s c`.
    public func biasUpdate() throws(TorchError) -> Tensor? {
        try bias.value.detach() * lora.target.scaling
    }

    /// Whether B and the bias are zero.
    public func changesNothing() throws(TorchError) -> Bool {
        let value = try bias.value.detach()
        guard try value.isEqual(to: value * 0) else { return false }
        return try lora.changesNothing()
    }
}
