import PEFTLayers
import Torch

// N tokens of all segments, C hidden, E experts, K experts of a token.

/// A feed-forward part of which each token uses a few experts.
///
/// `y = sum_k w_k down_e(activation(gate_e(x)) * up_e(x))` over the K experts e that the router chooses.
///
/// - Source: Shazeer et al. 2017, "Outrageously Large Neural Networks"; transformers 5.23
///   `models/mixtral/modeling_mixtral.py:MixtralSparseMoeBlock`.
///
/// Differs from transformers: the router's weights stay float32, and outputs are added in float32, where it rounds to the compute dtype.
struct MixtureOfExperts: FeedForwardPart {
    /// Scores the experts.
    let router: Router
    /// Gate and up of all experts, of each expert's rows the gate's first.
    let gateUp: Linear
    /// Down of all experts.
    let down: Linear
    let activation: Activation

    /// `[tokens, hidden] -> [tokens, hidden]`.
    func callAsFunction(
        _ input: Recomputable, context: ForwardContext
    ) throws(TorchError) -> Tensor {
        // Kept for all experts: to make it again for each of them would cost a norm of all tokens.
        let hidden = input.value
        let routing = try router(hidden, context: context)
        let kept = try hidden.detach()
        let (gateUps, downs) = (
            try gateUp.experts(context: context), try down.experts(context: context)
        )
        let inputs = try routing.dispatched(hidden)
        var outputs: [Tensor] = []
        for (index, expert) in routing.experts.enumerated() {
            let tokens = routing.tokens[index]
            let own = Recomputable(inputs[index]) { () throws(TorchError) in
                try kept.indexSelected(0, tokens)
            }
            let part = FeedForward(
                up: .fusedGated(gateUps[expert]), activation: activation, down: downs[expert])
            outputs.append(try part(own, context: context))
        }
        return try routing.combined(outputs)
    }
}

extension MixtureOfExperts {
    /// Chooses a token's experts: the K with the highest scores, whose softmax over all experts is the weight of each.
    struct Router {
        /// `[E, C]`.
        let linear: Linear
        let expertsPerToken: Int
        /// Whether a token's weights are divided by their sum.
        let normalizes: Bool

        /// The experts of tokens `[N, C]`.
        func callAsFunction(
            _ input: Tensor, context: ForwardContext
        ) throws(TorchError) -> ExpertRouting {
            let logits = try linear(input, context: context)
            let (values, order) = try logits.to(.float32).softmax().sorted(descending: true)
            var weights = try values.narrow(1, 0, expertsPerToken)
            if normalizes { weights = try weights / weights.sum([1], keepDims: true) }
            return try ExpertRouting(
                order.narrow(1, 0, expertsPerToken), weights: weights,
                numExperts: linear.weight.outFeatures)
        }
    }
}

extension DecoderConfig {
    /// A mixture of experts of `gate`, `experts.gate_up_proj` and `experts.down_proj`.
    ///
    /// - Parameters:
    ///   - options: how many experts, of what size.
    ///   - modules: see ``FileConventions/expertModules``.
    ///   - scope: the part's place.
    /// - Returns: the part.
    /// - Throws: the source's error.
    func mixtureOfExperts(
        _ options: ExpertOptions, modules: [String: [String]], _ scope: Scope
    ) throws -> MixtureOfExperts {
        let router = try scope.router(
            "gate", inFeatures: hiddenSize, numExperts: options.numExperts, moduleNames: ["gate"])
        func experts(_ name: String, inFeatures: Int, outFeatures: Int) throws -> Linear {
            try (scope / "experts").experts(
                name, numExperts: options.numExperts, inFeatures: inFeatures,
                outFeatures: outFeatures, moduleNames: modules[name] ?? [])
        }
        let wide = options.intermediateSize
        let gateUp = try experts("gate_up_proj", inFeatures: hiddenSize, outFeatures: 2 * wide)
        let down = try experts("down_proj", inFeatures: wide, outFeatures: hiddenSize)
        return MixtureOfExperts(
            router: MixtureOfExperts.Router(
                linear: router, expertsPerToken: options.expertsPerToken,
                normalizes: options.normalizesWeights),
            gateUp: gateUp, down: down, activation: activation)
    }
}

/// The sizes of a mixture of experts, and what a configuration may ask for besides.
struct ExpertOptions {
    /// Experts of a block.
    var numExperts: Int
    /// The key of their number.
    var numExpertsKey = "num_experts"
    /// Experts that a token uses.
    var expertsPerToken: Int
    /// Channels of an expert.
    var intermediateSize: Int
    /// The key of these channels.
    var intermediateSizeKey = "moe_intermediate_size"
    /// Whether a token's weights are divided by their sum.
    var normalizesWeights: Bool
    /// Whether transformers adds a loss of the router to that of the tokens.
    var outputRouterLogits: Bool
    /// The factor of that loss.
    var routerAuxLossCoef: Double

    /// Refuses sizes that do not fit together, and the loss of the router.
    func validate() throws(ModelError) {
        for (key, size) in [
            (numExpertsKey, numExperts), (intermediateSizeKey, intermediateSize),
            ("num_experts_per_tok", expertsPerToken),
        ] where size < 1 {
            throw .invalidConfiguration(key: key, found: "\(size)", expected: "a positive number")
        }
        guard expertsPerToken <= numExperts else {
            throw .invalidConfiguration(
                key: "num_experts_per_tok", found: "\(expertsPerToken)",
                expected: "at most \(numExpertsKey), \(numExperts)")
        }
        guard !outputRouterLogits || routerAuxLossCoef == 0 else {
            throw .invalidConfiguration(
                key: "output_router_logits", found: "true",
                expected: "false: the loss of the router, which transformers then adds, "
                    + "is not computed")
        }
    }
}
