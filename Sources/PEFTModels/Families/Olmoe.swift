public import PEFTLayers

/// OLMoE: Llama with queries and keys normalized over all their heads, and mixtures of experts.
///
/// - Source: Muennighoff et al. 2024, "OLMoE"; transformers 5.23 `models/olmoe`.
public struct OlmoeConfig: ModelConfig {
    /// The keys that families share; `intermediate_size` is that of an expert.
    public var decoder: DecoderConfig = {
        var decoder = DecoderConfig()
        decoder.vocabSize = 50_304
        decoder.hiddenSize = 2048
        decoder.intermediateSize = 2048
        decoder.numHiddenLayers = 16
        decoder.numAttentionHeads = 16
        decoder.maxPositionEmbeddings = 4096
        decoder.rmsNormEps = 1e-5
        return decoder
    }()
    /// Whether q, k, v and o have a bias.
    public var attentionBias = false
    /// Bound of queries, keys and values; nil: none.
    public var clipQkv: Double?
    /// Experts of a block.
    public var numExperts = 64
    /// Experts that a token uses.
    public var numExpertsPerTok = 8
    /// Whether a token's weights are divided by their sum.
    public var normTopkProb = false
    /// Whether transformers adds a loss of the router to that of the tokens.
    public var outputRouterLogits = false
    /// The factor of that loss.
    public var routerAuxLossCoef = 0.01

    private enum CodingKeys: String, CodingKey {
        case attentionBias, clipQkv, numExperts, numExpertsPerTok, normTopkProb, outputRouterLogits
        case routerAuxLossCoef
    }

    /// The number of experts has two names.
    public static let attributeMap = ["num_local_experts": "num_experts"]
    /// Files may have a tensor for each expert.
    public static let files = Qwen3MoeConfig.files

    /// Makes transformers' defaults.
    public init() {}

    private var experts: ExpertOptions {
        ExpertOptions(
            numExperts: numExperts, expertsPerToken: numExpertsPerTok,
            intermediateSize: decoder.intermediateSize, intermediateSizeKey: "intermediate_size",
            normalizesWeights: normTopkProb, outputRouterLogits: outputRouterLogits,
            routerAuxLossCoef: routerAuxLossCoef)
    }

    /// Refuses sizes of experts that do not fit, the loss of the router, bounds of queries, and rotary settings that are not known.
    public func validate() throws(ModelError) {
        try experts.validate()
        if let clipQkv {
            throw .invalidConfiguration(
                key: "clip_qkv", found: "\(clipQkv)",
                expected: "null: queries, keys and values are not bounded")
        }
        _ = try decoder.rotarySettings()
    }

    /// Builds the model.
    public func makeModel(_ scope: Scope) throws -> DecoderModel {
        try DecoderModel(
            decoder, rotaries: [decoder.rotarySettings()], scope, norm: decoder.rmsNorm
        ) { _, block in
            try decoder.preNormBlock(
                block,
                attention: {
                    try decoder.attention(
                        SelfAttention.Options(decoder), $0, bias: attentionBias,
                        outputBias: attentionBias
                    ) { numHeads, scope in
                        try RMSNorm(
                            hiddenSize: numHeads * decoder.headSize, epsilon: decoder.rmsNormEps,
                            scope)
                    }
                },
                feedForward: {
                    try decoder.mixtureOfExperts(experts, modules: Self.files.expertModules, $0)
                })
        }
    }
}
