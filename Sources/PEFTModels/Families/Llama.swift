public import PEFTLayers

/// Llama: a norm before each part, rotary positions, SwiGLU.
///
/// - Source: Touvron et al. 2023; transformers 5.23 `models/llama`.
public struct LlamaConfig: ModelConfig {
    /// The keys that families share.
    public var decoder = DecoderConfig()
    /// Whether q, k, v and o have a bias.
    public var attentionBias = false
    /// Whether gate, up and down have a bias.
    public var mlpBias = false

    private enum CodingKeys: String, CodingKey { case attentionBias, mlpBias }

    /// Makes transformers' defaults.
    public init() {}

    /// Refuses rotary settings that are not known.
    public func validate() throws(ModelError) { _ = try decoder.rotarySettings() }

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
                        outputBias: attentionBias)
                }, feedForward: { try decoder.gatedFeedForward($0, bias: mlpBias) })
        }
    }
}
