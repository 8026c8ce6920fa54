public import PEFTLayers
public import Torch

// N tokens, E experts, I input features, O output features of an expert, r the rank.

/// A low-rank update of each of several experts: `y = W_e x + s B_e A_e x`.
///
/// The experts' matrices are two tensors, as PEFT's files have them: A `[E r, I]`, one expert's rows below the other's, and B `[O, r E]`,
/// in whose rows the experts of one of the r columns are side by side. Both are trained in float32; s is `alpha / r`, or `alpha / √r`.
/// There is no dropout: PEFT, which adds the update to the weight, has none.
///
/// - Source: Hu et al. 2021, "LoRA"; peft 0.21.2 `tuners/lora/layer.py:ParamWrapper`.
///
/// Differs from PEFT: the update is never added to the weight, so that nothing of the weight's size is made and the weight may be in
/// any storage.
public final class ExpertLoRA: ExpertsAdapter {
    /// The path of the adapted parameter, with the values that hold for it.
    public let target: LoRATarget
    /// The number of experts.
    public let numExperts: Int
    /// The matrices A, `[E r, I]`, float32.
    public let loraA: Parameter
    /// The matrices B, `[O, r E]`, float32.
    public let loraB: Parameter

    /// A and B.
    public var parameters: [Parameter] { [loraA, loraB] }

    /// Makes a LoRA for the experts of a layer.
    ///
    /// - Parameters:
    ///   - target: the parameter's path, rank and scaling.
    ///   - numExperts: experts.
    ///   - inFeatures: columns of an expert's weight.
    ///   - outFeatures: rows of an expert's weight.
    ///   - prefix: what the names of A and B begin with in the adapter's file.
    ///   - initialization: how A and B start.
    ///   - seed: with the path, decides the start, whatever else is made before.
    ///   - isTrainable: false freezes A and B, for inference.
    ///   - device: where A and B are.
    /// - Throws: `TorchError` if libtorch cannot allocate.
    public init(
        target: LoRATarget, numExperts: Int, inFeatures: Int, outFeatures: Int, prefix: String,
        initialization: LoRAInitialization = .kaimingUniform, seed: UInt64,
        isTrainable: Bool = true, on device: Device = .cpu
    ) throws(TorchError) {
        self.target = target
        self.numExperts = numExperts
        let (valueA, valueB) = try initialization.start(
            rank: target.rank, [numExperts * target.rank, inFeatures],
            [outFeatures, target.rank * numExperts],
            generator: Generator(seed: StableHash.of(seed, target.path)))
        loraA = try Parameter(
            path: prefix + ".lora_A.weight", value: valueA.to(device), isTrainable: isTrainable)
        loraB = try Parameter(
            path: prefix + ".lora_B.weight", value: valueB.to(device), isTrainable: isTrainable)
    }

    /// The update of each expert, over the memory of A and B.
    ///
    /// - Memory: none; backward makes gradients of the size of A and B once for all experts.
    public func experts() throws(TorchError) -> [any LinearAdapter] {
        let (rank, count) = (target.rank, numExperts)
        let matrices = try Autograd.node("LoRA of experts", inputs: [loraA.value, loraB.value]) {
            () throws(TorchError) -> (outputs: [Tensor], pullback: Pullback) in
            let (a, b) = (try loraA.value.detach(), try loraB.value.detach())
            let (shapeA, shapeB) = (a.shape, b.shape)
            let columns = try b.reshape([shapeB[0], rank, count])
            var outputs: [Tensor] = []
            for expert in 0..<count {
                outputs.append(try a.narrow(0, expert * rank, rank).detach())
            }
            for expert in 0..<count { outputs.append(try columns.select(2, expert).detach()) }
            let device = a.device
            let pullback: Pullback = { gradients throws(TorchError) in
                let (ofA, ofB) = (gradients.prefix(count), Array(gradients.suffix(count)))
                let gradientA = try Tensor.zeros(shapeA, on: device)
                let gradientB = try Tensor.zeros([shapeB[0], rank, count], on: device)
                for (expert, gradient) in ofA.enumerated() {
                    guard let gradient else { continue }
                    try gradientA.narrow(0, expert * rank, rank).copyInPlace(from: gradient)
                }
                for (expert, gradient) in ofB.enumerated() {
                    guard let gradient else { continue }
                    try gradientB.select(2, expert).copyInPlace(from: gradient)
                }
                return [gradientA, try gradientB.reshape(shapeB)]
            }
            return (outputs, pullback)
        }
        return (0..<count).map { expert in
            Expert(a: matrices[expert], b: matrices[count + expert], scale: target.scaling)
        }
    }

    /// Whether every element of B is zero.
    public func changesNothing() throws(TorchError) -> Bool {
        let valueB = try loraB.value.detach()
        return try valueB.isEqual(to: Tensor.zeros(valueB.shape, on: valueB.device))
    }

    /// The update of the weight, `s B_e A_e` of each expert one below the other: float32 `[E O, I]`, without history.
    ///
    /// - Throws: `TorchError` if memory does not suffice.
    /// - Memory: twice a tensor of the weight's size in float32.
    public func delta() throws(TorchError) -> Tensor {
        let (a, b) = (try loraA.value.detach(), try loraB.value.detach())
        let columns = try b.reshape([b.shape[0], target.rank, numExperts])
        let updates = try (0..<numExperts).map { expert throws(TorchError) in
            try columns.select(2, expert).matmul(a.narrow(0, expert * target.rank, target.rank))
        }
        let delta = try Tensor.concatenated(updates)
        try delta.multiplyInPlace(target.scaling)
        return delta
    }

    /// `W_e + s B_e A_e` of each expert, in the shape of the weight.
    public func merged(into weight: Tensor) throws(TorchError) -> Tensor? {
        let sum = try delta().reshape(weight.shape)
        try sum.addInPlace(weight.detach())
        return sum
    }
}

extension ExpertLoRA {
    /// The update of one expert in one pass.
    private final class Expert: LinearAdapter {
        let a: Tensor
        let b: Tensor
        let scale: Double

        init(a: Tensor, b: Tensor, scale: Double) {
            self.a = a
            self.b = b
            self.scale = scale
        }

        /// None of its own.
        var parameters: [Parameter] { [] }

        func apply(
            to input: Tensor, baseOutput: Tensor, weight: any LinearWeight, context: ForwardContext
        ) throws(TorchError) -> Tensor {
            let wide = try input.to(input.productDType)
            let small = try wide.linear(a.to(wide.dtype)) * scale
            let update = try small.linear(b.to(wide.dtype)).to(baseOutput.dtype)
            return try (update + baseOutput).to(input.dtype)
        }

        func lowRankTerm(
            for input: Tensor, context: ForwardContext
        ) throws(TorchError) -> LowRankTerm? {
            LowRankTerm(a: a, b: b, scale: scale)
        }

        func changesNothing() throws(TorchError) -> Bool {
            let value = try b.detach()
            return try value.isEqual(to: Tensor.zeros(value.shape, on: value.device))
        }
    }
}
