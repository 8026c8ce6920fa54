public import PEFTLayers

/// Mixtral: Mistral whose feed-forward part is a mixture of experts.
///
/// - Source: Jiang et al. 2024, "Mixtral of Experts"; transformers 5.23 `models/mixtral`.
public struct MixtralConfig: ModelConfig {
    /// The keys that families share; `intermediate_size` is that of an expert.
    public var decoder: DecoderConfig = {
        var decoder = DecoderConfig()
        decoder.intermediateSize = 14_336
        decoder.numKeyValueHeads = 8
        decoder.maxPositionEmbeddings = 4096 * 32
        decoder.rmsNormEps = 1e-5
        decoder.ropeTheta = 1_000_000
        return decoder
    }()
    /// How many keys a token sees at most, itself among them; nil: all before it.
    public var slidingWindow: Int?
    /// Experts of a block.
    public var numLocalExperts = 8
    /// Experts that a token uses.
    public var numExpertsPerTok = 2
    /// Whether transformers adds a loss of the router to that of the tokens.
    public var outputRouterLogits = false
    /// The factor of that loss.
    public var routerAuxLossCoef = 0.001
    /// The width of the noise that the experts' inputs are multiplied with in training.
    public var routerJitterNoise = 0.0

    private enum CodingKeys: String, CodingKey {
        case slidingWindow, numLocalExperts, numExpertsPerTok, outputRouterLogits
        case routerAuxLossCoef, routerJitterNoise
    }

    /// The number of experts has two names.
    public static let attributeMap = ["num_experts": "num_local_experts"]
    /// Files of transformers 4 have other names, and a tensor for each expert.
    public static let files: FileConventions = {
        var files = FileConventions()
        files.renamedParts = ["block_sparse_moe": "mlp"]
        files.expertModules = ["gate_up_proj": ["w1", "w3"], "down_proj": ["w2"]]
        return files
    }()

    /// Makes transformers' defaults.
    public init() {}

    private var experts: ExpertOptions {
        ExpertOptions(
            numExperts: numLocalExperts, numExpertsKey: "num_local_experts",
            expertsPerToken: numExpertsPerTok, intermediateSize: decoder.intermediateSize,
            intermediateSizeKey: "intermediate_size", normalizesWeights: true,
            outputRouterLogits: outputRouterLogits, routerAuxLossCoef: routerAuxLossCoef)
    }

    /// Refuses sizes of experts that do not fit, what the router's training would add, a window of no tokens, and rotary settings that
    /// are not known.
    public func validate() throws(ModelError) {
        try experts.validate()
        guard routerJitterNoise == 0 else {
            throw .invalidConfiguration(
                key: "router_jitter_noise", found: "\(routerJitterNoise)",
                expected: "0: noise on the experts' inputs is not computed")
        }
        try requireWindow(slidingWindow)
        _ = try decoder.rotarySettings()
    }

    /// Builds the model.
    public func makeModel(_ scope: Scope) throws -> DecoderModel {
        var options = SelfAttention.Options(decoder)
        options.window = slidingWindow
        return try DecoderModel(
            decoder, rotaries: [decoder.rotarySettings()], scope, norm: decoder.rmsNorm
        ) { _, block in
            try decoder.preNormBlock(
                block, attention: { try decoder.attention(options, $0) },
                feedForward: {
                    try decoder.mixtureOfExperts(experts, modules: Self.files.expertModules, $0)
                })
        }
    }
}
