public import PEFTLayers

/// Qwen 3 MoE: Qwen 3 with mixtures of experts in all blocks or some.
///
/// - Source: Yang et al. 2025, "Qwen3 Technical Report"; transformers 5.23 `models/qwen3_moe`.
public struct Qwen3MoeConfig: ModelConfig {
    /// The keys that families share; `intermediate_size` is that of blocks without experts.
    public var decoder: DecoderConfig = {
        var decoder = DecoderConfig()
        decoder.vocabSize = 151_936
        decoder.hiddenSize = 2048
        decoder.intermediateSize = 6144
        decoder.numHiddenLayers = 24
        decoder.numKeyValueHeads = 4
        decoder.maxPositionEmbeddings = 32_768
        return decoder
    }()
    /// Whether ``slidingWindow`` is used at all.
    public var useSlidingWindow = false
    /// How many keys a token sees at most, itself among them, in every block.
    public var slidingWindow: Int? = 4096
    /// Whether q, k, v and o have a bias.
    public var attentionBias = false
    /// Every so many blocks one has experts.
    public var decoderSparseStep = 1
    /// Blocks without experts, by index.
    public var mlpOnlyLayers: [Int]? = []
    /// Channels of an expert.
    public var moeIntermediateSize = 768
    /// Experts of a block; 0: none anywhere.
    public var numExperts = 128
    /// Experts that a token uses.
    public var numExpertsPerTok = 8
    /// Whether a token's weights are divided by their sum.
    public var normTopkProb = false
    /// Whether transformers adds a loss of the router to that of the tokens.
    public var outputRouterLogits = false
    /// The factor of that loss.
    public var routerAuxLossCoef = 0.001

    private enum CodingKeys: String, CodingKey {
        case useSlidingWindow, slidingWindow, attentionBias, decoderSparseStep, mlpOnlyLayers
        case moeIntermediateSize, numExperts, numExpertsPerTok, normTopkProb, outputRouterLogits
        case routerAuxLossCoef
    }

    /// transformers 5 writes the number of experts under another name.
    public static let attributeMap = ["num_local_experts": "num_experts"]
    /// Files may have a tensor for each expert.
    public static let files: FileConventions = {
        var files = FileConventions()
        files.expertModules = [
            "gate_up_proj": ["gate_proj", "up_proj"], "down_proj": ["down_proj"],
        ]
        return files
    }()

    /// Makes transformers' defaults.
    public init() {}

    private var experts: ExpertOptions {
        ExpertOptions(
            numExperts: numExperts, expertsPerToken: numExpertsPerTok,
            intermediateSize: moeIntermediateSize, normalizesWeights: normTopkProb,
            outputRouterLogits: outputRouterLogits, routerAuxLossCoef: routerAuxLossCoef)
    }

    private func hasExperts(_ index: Int) -> Bool {
        numExperts > 0 && (index + 1).isMultiple(of: decoderSparseStep)
            && mlpOnlyLayers?.contains(index) != true
    }

    /// Refuses sizes of experts that do not fit, the loss of the router, a window of no tokens, and rotary settings that are not known.
    public func validate() throws(ModelError) {
        guard decoderSparseStep > 0 else {
            throw .invalidConfiguration(
                key: "decoder_sparse_step", found: "\(decoderSparseStep)",
                expected: "a positive number")
        }
        if numExperts != 0 { try experts.validate() }
        try requireWindow(slidingWindow)
        _ = try decoder.rotarySettings()
    }

    /// Builds the model.
    public func makeModel(_ scope: Scope) throws -> DecoderModel {
        var options = SelfAttention.Options(decoder)
        options.window = useSlidingWindow ? slidingWindow : nil
        return try DecoderModel(
            decoder, rotaries: [decoder.rotarySettings()], scope, norm: decoder.rmsNorm
        ) { index, block in
            try decoder.preNormBlock(
                block,
                attention: {
                    try decoder.attention(
                        options, $0, bias: attentionBias, outputBias: attentionBias
                    ) { _, scope in
                        try RMSNorm(
                            hiddenSize: decoder.headSize, epsilon: decoder.rmsNormEps, scope)
                    }
                },
                feedForward: { mlp in
                    guard hasExperts(index) else { return try decoder.gatedFeedForward(mlp) }
                    return try decoder.mixtureOfExperts(
                        experts, modules: Self.files.expertModules, mlp)
                })
        }
    }
}
