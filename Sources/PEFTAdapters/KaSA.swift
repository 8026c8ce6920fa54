public import PEFTLayers
public import Torch

/// The options of KaSA, as in PEFT's `KasaConfig`.
public struct KaSAConfig: Hashable, Sendable {
    /// The weight of the penalty of large singular values, `‖d‖²`.
    public var beta = 1e-4
    /// The weight of the penalty of vectors that are not orthonormal, `‖Bᵀ B - I‖ + ‖A Aᵀ - I‖`.
    public var gamma = 1e-3

    /// PEFT's defaults.
    public init() {}

    /// Makes options.
    public init(beta: Double, gamma: Double) { (self.beta, self.gamma) = (beta, gamma) }
}

/// An update in the form of a singular value decomposition: `y = W' x + s B (d * A dropout(x))`.
///
/// W' is the base without its r smallest singular values, which were taken out of it while it was read; A, B and s are those of a ``LoRA``, and
/// d `[r]` is trained in float32. In training the loss is added `β ‖d‖² + γ (‖Bᵀ B - I‖ + ‖A Aᵀ - I‖)`, with Frobenius' norm, for
/// each layer, once a step: it reaches the gradients, not the loss that is reported.
///
/// - Source: Wang et al. 2024, "KaSA", equations 5 to 12; peft 0.21.2 `tuners/lora/variants.py:KasaLinearVariant`,
///   `_kasa_layer_regularization_loss`, which a training loop of PEFT's has to add itself.
///
/// Differs from PEFT: d multiplies the rows of A and not the product, which is the same up to rounding; W' is stored in any form.
public final class KaSA: LinearAdapter {
    /// A, B and the scaling.
    public let lora: LoRA
    /// The singular values d, `[r]`, float32.
    public let diagonal: Parameter
    /// The weights of the penalties.
    public let config: KaSAConfig

    /// A, B and d.
    public var parameters: [Parameter] { lora.parameters + [diagonal] }

    /// Gives a LoRA singular values, which start standard normal.
    ///
    /// - Parameters:
    ///   - lora: the update without them.
    ///   - config: the weights of the penalties.
    ///   - seed: with the path, decides d.
    /// - Throws: `TorchError` if libtorch cannot allocate.
    public init(_ lora: LoRA, config: KaSAConfig, seed: UInt64) throws(TorchError) {
        self.lora = lora
        self.config = config
        let path = "base_model.model.\(lora.target.path).lora_diag"
        let value = try Tensor.normal(
            [lora.target.rank], generator: Generator(seed: StableHash.of(seed, path)))
        diagonal = try Parameter(
            path: path, value: value.to(lora.loraA.value.device),
            isTrainable: lora.loraA.isTrainable)
    }

    /// Adds the update to the base's output.
    ///
    /// - Memory: as ``LoRA/apply(to:baseOutput:weight:context:)``, and `d * A`.
    public func apply(
        to input: Tensor, baseOutput: Tensor, weight: any LinearWeight, context: ForwardContext
    ) throws(TorchError) -> Tensor {
        try lora.update(
            of: input, a: scaledA(context),
            mask: lora.dropoutMask(for: input, key: context.dropout), addedTo: baseOutput,
            dtype: input.dtype)
    }

    /// The update, with `d * A` for A.
    public func lowRankTerm(
        for input: Tensor, context: ForwardContext
    ) throws(TorchError) -> LowRankTerm? {
        try lora.lowRankTerm(for: input, context: context).map { term throws(TorchError) in
            LowRankTerm(a: try scaledA(context), b: term.b, scale: term.scale, kept: term.kept)
        }
    }

    /// `d * A`, `[r, inFeatures]`; in backward the penalties add to the gradients of d, A and B.
    private func scaledA(_ context: ForwardContext) throws(TorchError) -> Tensor {
        let inputs = [diagonal.value, lora.loraA.value, lora.loraB.value]
        let sums = context.gradientSums
        let outputs = try Autograd.node("KaSA", inputs: inputs) {
            () throws(TorchError) -> (outputs: [Tensor], pullback: Pullback) in
            let diagonal = try inputs[0].detach().unsqueezed(1)
            let (a, b) = (try inputs[1].detach(), try inputs[2].detach())
            let pullback: Pullback = { [config] gradients throws(TorchError) in
                guard let gradient = gradients[0] else { return [nil, nil, nil] }
                let ofDiagonal = try (gradient * a).sum([1])
                let ofA = try gradient * diagonal
                let factor = sums?.takePenaltyFactor(of: inputs[0]) ?? 0
                guard factor != 0 else { return [ofDiagonal, ofA, nil] }
                let (beta, gamma) = (config.beta * factor, config.gamma * factor)
                try ofDiagonal.addInPlace(inputs[0].detach() * (2 * beta))
                try ofA.addInPlace(Self.orthogonality(a, gamma))
                let ofB = try Self.orthogonality(b.transposed(), gamma).transposed()
                return [ofDiagonal, ofA, try ofB.contiguous()]
            }
            return ([try a * diagonal], pullback)
        }
        return outputs[0]
    }

    /// The gradient of `γ ‖M Mᵀ - I‖` by M, `2 γ (M Mᵀ - I) M / ‖M Mᵀ - I‖`; zero where the norm is.
    private static func orthogonality(
        _ matrix: Tensor, _ gamma: Double
    ) throws(TorchError) -> Tensor {
        let size = matrix.shape[0]
        let identity = try Tensor(
            (0..<size * size).map { $0.isMultiple(of: size + 1) ? 1 : 0 as Float },
            shape: [size, size])
        let excess = try matrix.matmul(matrix.transposed()) - identity.to(matrix.device)
        // A norm of zero has a gradient of zero, as libtorch has it.
        let norm = try excess.norm() + 1e-30
        return try (excess / norm).matmul(matrix) * (2 * gamma)
    }

    /// `d * A`, `[r, inFeatures]`, without history.
    ///
    /// - Throws: `TorchError` if memory does not suffice.
    package func scaledA() throws(TorchError) -> Tensor {
        try lora.loraA.value.detach() * diagonal.value.detach().unsqueezed(1)
    }

    /// Whether every element of B, or of d, is zero.
    public func changesNothing() throws(TorchError) -> Bool {
        let value = try diagonal.value.detach()
        if try value.isEqual(to: value * 0) { return true }
        return try lora.changesNothing()
    }

    /// `W' + s B (d * A)`.
    public func merged(into weight: Tensor) throws(TorchError) -> Tensor? {
        try lora.merged(into: weight, a: scaledA())
    }
}

extension LoRAConfig {
    /// How the adapter of a layer starts with KaSA: as LoRA does, without the weight's r smallest singular values.
    ///
    /// - Parameters:
    ///   - target: the layer.
    ///   - weight: `[outFeatures, inFeatures]`, float32; its smaller side is above the rank.
    ///   - seed: with the path, decides A.
    /// - Returns: the start, float32.
    /// - Throws: `TorchError` if memory does not suffice.
    func truncated(
        _ target: LoRATarget, weight: Tensor, seed: UInt64
    ) throws(TorchError) -> LowRankStart {
        let (rank, shape) = (target.rank, weight.shape)
        let (a, b) = try initLoraWeights.start(
            rank: rank, [rank, shape[1]], [shape[0], rank],
            generator: Generator(seed: StableHash.of(seed, target.path)))
        let (u, s, vt) = try weight.svd()
        let first = s.shape[0] - rank
        let smallest = try s.narrow(0, first, rank) * (1 / target.scaling)
        return LowRankStart(
            update: LowRankUpdate(a: a, b: b, scaling: target.scaling),
            subtracted: LowRankUpdate(
                a: try vt.narrow(0, first, rank).contiguous(),
                b: try (u.narrow(1, first, rank) * smallest).contiguous(),
                scaling: target.scaling))
    }

    /// What KaSA cannot have.
    var kasaProblems: [AdapterConfigProblem] {
        guard let kasaConfig else { return [] }
        var problems: [AdapterConfigProblem] = []
        for (key, value) in [("beta", kasaConfig.beta), ("gamma", kasaConfig.gamma)]
        where value < 0 || !value.isFinite {
            problems.append(
                .wrongValue(
                    key: "kasa_config.\(key)", expected: "a number of at least 0",
                    found: ConfigValue.double(value).description))
        }
        for (option, isSet, value) in [
            ("use_dora", useDora, "false"), ("lora_bias", loraBias, "false"),
            ("alora_invocation_tokens", aloraInvocationTokens != nil, "null"),
            (
                "init_lora_weights \(initLoraWeights.configValue)",
                initLoraWeights.readsWeight || initLoraWeights.readsRows, "true"
            ),
        ] where isSet {
            problems.append(
                .conflict(key: "kasa_config", other: option, remedy: "set that to \(value)"))
        }
        return problems
    }
}

extension KaSAConfig: ConfigRepresentable {
    static var expectedValue: String { "an object of beta and gamma" }

    init?(configValue: ConfigValue) {
        guard var members = ConfigMembers(configValue) else { return nil }
        members.read("beta", into: &beta)
        members.read("gamma", into: &gamma)
        guard members.isRead else { return nil }
    }

    var configValue: ConfigValue {
        .object(["beta": .double(beta), "gamma": .double(gamma)])
    }
}
