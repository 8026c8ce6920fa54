public import PEFTLayers

/// GPT-2: LayerNorm, learned positions, linears whose weights the files hold transposed.
///
/// - Source: Radford et al. 2019, "Language Models are Unsupervised Multitask Learners"; transformers 5.23 `models/gpt2`.
///
/// Differs from transformers: a base's own dropout (`resid_pdrop`, `embd_pdrop`, `attn_pdrop`) is not applied in training.
public struct GPT2Config: ModelConfig {
    /// The keys that families share.
    public var decoder: DecoderConfig = {
        var decoder = DecoderConfig()
        decoder.vocabSize = 50_257
        decoder.hiddenSize = 768
        decoder.numHiddenLayers = 12
        decoder.numAttentionHeads = 12
        decoder.maxPositionEmbeddings = 1024
        decoder.hiddenAct = "gelu_new"
        decoder.tieWordEmbeddings = true
        return decoder
    }()
    /// Channels of the feed-forward part; nil means four times the hidden size.
    public var nInner: Int?
    /// Added to the variance in every norm.
    public var layerNormEpsilon = 1e-5
    /// Whether scores are divided by the root of the head size.
    public var scaleAttnWeights = true
    /// Whether scores are divided by the number of the block, counted from one.
    public var scaleAttnByInverseLayerIdx = false
    /// Whether blocks read another model's output too.
    public var addCrossAttention = false

    private enum CodingKeys: String, CodingKey {
        case nInner, layerNormEpsilon, scaleAttnWeights, scaleAttnByInverseLayerIdx
        case addCrossAttention
    }

    /// Names of GPT-2's own.
    public static let attributeMap = [
        "n_embd": "hidden_size", "n_positions": "max_position_embeddings",
        "n_head": "num_attention_heads", "n_layer": "num_hidden_layers",
        "activation_function": "hidden_act",
    ]
    /// GPT-2's names; all linears but the head are transformers' `Conv1D`, and the first files hold masks and no `transformer.`.
    public static let files: FileConventions = {
        var files = FileConventions()
        files.names.base = "transformer"
        files.names.embedding = "wte"
        files.names.positions = "wpe"
        files.names.layers = "h"
        files.names.norm = "ln_f"
        files.mayOmitBase = true
        files.transposedLinears = ["c_attn", "c_proj", "c_fc"]
        files.masks = ["attn.bias", "attn.masked_bias"]
        return files
    }()

    /// Makes transformers' defaults.
    public init() {}

    /// Refuses what is not built.
    public func validate() throws(ModelError) {
        guard !addCrossAttention else {
            throw .invalidConfiguration(
                key: "add_cross_attention", found: "true", expected: "false: a decoder alone")
        }
        guard decoder.keyValueHeads == decoder.numAttentionHeads else {
            throw .invalidConfiguration(
                key: "num_key_value_heads", found: "\(decoder.keyValueHeads)",
                expected: "n_head, or nothing")
        }
        if let nInner, nInner < 1 {
            throw .invalidConfiguration(
                key: "n_inner", found: "\(nInner)", expected: "a positive number, or null")
        }
    }

    /// Builds the model.
    public func makeModel(_ scope: Scope) throws -> DecoderModel {
        try DecoderModel(
            decoder, names: Self.files.names, rotaries: [], scope, norm: norm
        ) { index, block in
            let before = try norm(block / "ln_1")
            let attention = try attention(index, block / "attn")
            let between = try norm(block / "ln_2")
            return DecoderBlock(
                attentionNorms: DecoderBlock.Norms(before: before), attention,
                feedForwardNorms: DecoderBlock.Norms(before: between),
                try feedForward(block / "mlp"))
        }
    }

    private func norm(_ scope: Scope) throws -> any Normalization {
        try LayerNorm(hiddenSize: decoder.hiddenSize, epsilon: layerNormEpsilon, scope)
    }

    private func attention(_ index: Int, _ scope: Scope) throws -> SelfAttention {
        let (hidden, width) = (decoder.hiddenSize, decoder.numAttentionHeads * decoder.headSize)
        var options = SelfAttention.Options(decoder)
        options.rotary = nil
        if !scaleAttnWeights { options.scale = 1 }
        if scaleAttnByInverseLayerIdx { options.scale /= Double(index + 1) }
        let projections = try scope.linear(
            "c_attn", inFeatures: hidden, outFeatures: 3 * width, bias: true)
        let output = try scope.linear("c_proj", inFeatures: width, outFeatures: hidden, bias: true)
        return SelfAttention(options, .fused(projections), output: output)
    }

    private func feedForward(_ scope: Scope) throws -> FeedForward {
        let (hidden, wide) = (decoder.hiddenSize, nInner ?? 4 * decoder.hiddenSize)
        let up = try scope.linear("c_fc", inFeatures: hidden, outFeatures: wide, bias: true)
        let down = try scope.linear("c_proj", inFeatures: wide, outFeatures: hidden, bias: true)
        return FeedForward(up: .plain(up), activation: decoder.activation, down: down)
    }
}
