public import PEFTLayers

/// Granite 3: Llama with factors of embedding, scores, residual stream and logits.
///
/// - Source: transformers 5.23 `models/granite`; Yang et al. 2022, "Tensor Programs V" (the factors).
public struct GraniteConfig: ModelConfig {
    /// The keys that families share.
    public var decoder = DecoderConfig()
    /// Whether q, k, v and o have a bias.
    public var attentionBias = false
    /// Whether gate, up and down have a bias.
    public var mlpBias = false
    /// Factor of the embedding.
    public var embeddingMultiplier = 1.0
    /// Divides the logits.
    public var logitsScaling = 1.0
    /// Factor of what each part of a block adds.
    public var residualMultiplier = 1.0
    /// Factor of the scores, in the place of one over the root of the head size.
    public var attentionMultiplier = 1.0

    private enum CodingKeys: String, CodingKey {
        case attentionBias, mlpBias, embeddingMultiplier, logitsScaling, residualMultiplier
        case attentionMultiplier
    }

    /// Makes transformers' defaults.
    public init() {}

    /// Refuses a divisor of zero, and rotary settings that are not known.
    public func validate() throws(ModelError) {
        guard logitsScaling != 0 else {
            throw .invalidConfiguration(
                key: "logits_scaling", found: "0", expected: "another number: it divides the logits"
            )
        }
        _ = try decoder.rotarySettings()
    }

    /// Builds the model.
    public func makeModel(_ scope: Scope) throws -> DecoderModel {
        var options = SelfAttention.Options(decoder)
        options.scale = attentionMultiplier
        var ends = DecoderModel.Ends()
        ends.embeddingScale = embeddingMultiplier
        ends.logitTransform = logitsScaling == 1 ? nil : LogitTransform(divisor: logitsScaling)
        return try DecoderModel(
            decoder, ends: ends, rotaries: [decoder.rotarySettings()], scope,
            norm: decoder.rmsNorm
        ) { _, block in
            try decoder.preNormBlock(
                block, residualMultiplier: residualMultiplier,
                attention: {
                    try decoder.attention(
                        options, $0, bias: attentionBias, outputBias: attentionBias)
                }, feedForward: { try decoder.gatedFeedForward($0, bias: mlpBias) })
        }
    }
}
