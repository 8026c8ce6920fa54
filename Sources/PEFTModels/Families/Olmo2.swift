public import PEFTLayers

/// OLMo 2: norms after each part instead of before, queries and keys normalized over all their heads.
///
/// - Source: OLMo Team 2024, "2 OLMo 2 Furious"; transformers 5.23 `models/olmo2`.
public struct Olmo2Config: ModelConfig {
    /// The keys that families share.
    public var decoder: DecoderConfig = {
        var decoder = DecoderConfig()
        decoder.vocabSize = 50_304
        decoder.rmsNormEps = 1e-5
        return decoder
    }()
    /// Whether q, k, v and o have a bias.
    public var attentionBias = false

    private enum CodingKeys: String, CodingKey { case attentionBias }

    /// Makes transformers' defaults.
    public init() {}

    /// Refuses rotary settings that are not known.
    public func validate() throws(ModelError) { _ = try decoder.rotarySettings() }

    /// Builds the model.
    public func makeModel(_ scope: Scope) throws -> DecoderModel {
        try DecoderModel(
            decoder, rotaries: [decoder.rotarySettings()], scope,
            norm: finalNorm
        ) { _, block in
            let attention = try decoder.attention(
                SelfAttention.Options(decoder), block / "self_attn", bias: attentionBias,
                outputBias: attentionBias
            ) { numHeads, scope in
                try norm(numHeads * decoder.headSize, scope)
            }
            let feedForward = try decoder.gatedFeedForward(block / "mlp")
            func after(_ name: String) throws -> DecoderBlock.Norms {
                DecoderBlock.Norms(after: try norm(decoder.hiddenSize, block / name))
            }
            return DecoderBlock(
                attentionNorms: try after("post_attention_layernorm"), attention,
                feedForwardNorms: try after("post_feedforward_layernorm"), feedForward)
        }
    }

    private func finalNorm(_ scope: Scope) throws -> any Normalization {
        try norm(decoder.hiddenSize, scope)
    }

    private func norm(_ width: Int, _ scope: Scope) throws -> RMSNorm {
        try RMSNorm(hiddenSize: width, epsilon: decoder.rmsNormEps, roundsFirst: false, scope)
    }
}
