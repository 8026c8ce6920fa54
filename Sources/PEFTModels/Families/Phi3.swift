public import PEFTLayers

/// Phi-3 and Phi-4: Llama with one linear for query, key and value, and one for gate and up.
///
/// - Source: Abdin et al. 2024, "Phi-3 Technical Report"; transformers 5.23 `models/phi3`.
///
/// Differs from transformers: a base's own dropout (`resid_pdrop`, zero in all files) is not applied.
public struct Phi3Config: ModelConfig {
    /// The keys that families share.
    public var decoder: DecoderConfig = {
        var decoder = DecoderConfig()
        decoder.vocabSize = 32_064
        decoder.hiddenSize = 3072
        decoder.intermediateSize = 8192
        decoder.maxPositionEmbeddings = 4096
        decoder.originalMaxPositionEmbeddings = 4096
        decoder.rmsNormEps = 1e-5
        return decoder
    }()
    /// How many keys a token sees at most, itself among them; nil: all before it.
    public var slidingWindow: Int?

    private enum CodingKeys: String, CodingKey { case slidingWindow }

    /// Makes transformers' defaults.
    public init() {}

    /// Refuses a window of no tokens, and rotary settings that are not known.
    public func validate() throws(ModelError) {
        try requireWindow(slidingWindow)
        _ = try rotarySettings()
    }

    /// Builds the model.
    public func makeModel(_ scope: Scope) throws -> DecoderModel {
        var options = SelfAttention.Options(decoder)
        options.window = slidingWindow
        return try DecoderModel(
            decoder, rotaries: [rotarySettings()], scope, norm: decoder.rmsNorm
        ) { _, block in
            try decoder.preNormBlock(
                block, attention: { try attention(options, $0) },
                feedForward: feedForward)
        }
    }

    /// The first files call LongRoPE by other names.
    private func rotarySettings() throws(ModelError) -> RotarySettings {
        try decoder.rotarySettings(aliases: ["su": "longrope", "yarn": "longrope"])
    }

    private func attention(
        _ options: SelfAttention.Options, _ scope: Scope
    ) throws -> SelfAttention {
        let (own, shared) = (decoder.numAttentionHeads, decoder.keyValueHeads)
        let projections = try scope.linear(
            "qkv_proj", inFeatures: decoder.hiddenSize,
            outFeatures: (own + 2 * shared) * decoder.headSize)
        let output = try scope.linear(
            "o_proj", inFeatures: own * decoder.headSize, outFeatures: decoder.hiddenSize)
        return SelfAttention(options, .fused(projections), output: output)
    }

    private func feedForward(_ scope: Scope) throws -> FeedForward {
        let (hidden, wide) = (decoder.hiddenSize, decoder.intermediateSize)
        let up = try scope.linear("gate_up_proj", inFeatures: hidden, outFeatures: 2 * wide)
        let down = try scope.linear("down_proj", inFeatures: wide, outFeatures: hidden)
        return FeedForward(up: .fusedGated(up), activation: decoder.activation, down: down)
    }
}
