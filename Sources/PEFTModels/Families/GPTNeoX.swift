public import PEFTLayers

/// GPT-NeoX and Pythia: LayerNorm, both parts of a block side by side, a share of each head rotated.
///
/// - Source: Black et al. 2022, "GPT-NeoX-20B"; transformers 5.23 `models/gpt_neox`.
///
/// Differs from transformers: a base's own dropout (`hidden_dropout`, `attention_dropout`) is not applied in training.
public struct GPTNeoXConfig: ModelConfig {
    /// The keys that families share.
    public var decoder: DecoderConfig = {
        var decoder = DecoderConfig()
        decoder.vocabSize = 50_432
        decoder.hiddenSize = 6144
        decoder.numHiddenLayers = 44
        decoder.numAttentionHeads = 64
        decoder.intermediateSize = 24_576
        decoder.hiddenAct = "gelu"
        decoder.partialRotaryFactor = 0.25
        return decoder
    }()
    /// Added to the variance in every norm.
    public var layerNormEps = 1e-5
    /// Whether both parts of a block read its input.
    public var useParallelResidual = true
    /// Whether the linears of the attention have a bias.
    public var attentionBias = true

    private enum CodingKeys: String, CodingKey {
        case layerNormEps, useParallelResidual, attentionBias
    }

    /// The rotary settings' names in files of transformers 4.
    public static let attributeMap = [
        "rotary_emb_base": "rope_theta", "rotary_pct": "partial_rotary_factor",
    ]

    /// GPT-NeoX's names; old files hold masks.
    public static let files: FileConventions = {
        var files = FileConventions()
        files.names.base = "gpt_neox"
        files.names.embedding = "embed_in"
        files.names.norm = "final_layer_norm"
        files.renamedParts = ["embed_out": "lm_head"]
        files.masks = ["attention.bias", "attention.masked_bias"]
        return files
    }()

    /// Makes transformers' defaults.
    public init() {}

    /// Refuses shared key/value heads, and rotary settings that are not known.
    public func validate() throws(ModelError) {
        guard decoder.keyValueHeads == decoder.numAttentionHeads else {
            throw .invalidConfiguration(
                key: "num_key_value_heads", found: "\(decoder.keyValueHeads)",
                expected: "num_attention_heads, or nothing")
        }
        _ = try decoder.rotarySettings()
    }

    /// Builds the model.
    public func makeModel(_ scope: Scope) throws -> DecoderModel {
        try DecoderModel(
            decoder, names: Self.files.names, rotaries: [decoder.rotarySettings()], scope,
            norm: norm
        ) { _, block in
            let before = try norm(block / "input_layernorm")
            let between = try norm(block / "post_attention_layernorm")
            return DecoderBlock(
                attentionNorms: DecoderBlock.Norms(before: before),
                try attention(block / "attention"),
                feedForwardNorms: DecoderBlock.Norms(before: between),
                try feedForward(block / "mlp"), isParallel: useParallelResidual)
        }
    }

    private func norm(_ scope: Scope) throws -> any Normalization {
        try LayerNorm(hiddenSize: decoder.hiddenSize, epsilon: layerNormEps, scope)
    }

    private func attention(_ scope: Scope) throws -> SelfAttention {
        let (hidden, width) = (decoder.hiddenSize, decoder.numAttentionHeads * decoder.headSize)
        let projections = try scope.linear(
            "query_key_value", inFeatures: hidden, outFeatures: 3 * width, bias: attentionBias)
        let output = try scope.linear(
            "dense", inFeatures: width, outFeatures: hidden, bias: attentionBias)
        return SelfAttention(
            SelfAttention.Options(decoder), .perHead(projections), output: output)
    }

    private func feedForward(_ scope: Scope) throws -> FeedForward {
        let (hidden, wide) = (decoder.hiddenSize, decoder.intermediateSize)
        let up = try scope.linear(
            "dense_h_to_4h", inFeatures: hidden, outFeatures: wide, bias: true)
        let down = try scope.linear(
            "dense_4h_to_h", inFeatures: wide, outFeatures: hidden, bias: true)
        return FeedForward(up: .plain(up), activation: decoder.activation, down: down)
    }
}
