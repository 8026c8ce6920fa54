public import PEFTLayers

/// What Gemma 2 and Gemma 3 share.
public struct GemmaOptions: Codable, Hashable, Sendable {
    /// Whether q, k, v and o have a bias.
    public var attentionBias = false
    /// One over the root of this is the factor of the scores.
    public var queryPreAttnScalar = 256.0
    /// How many keys a token of a sliding block sees at most.
    public var slidingWindow: Int? = 4096
    /// Cap of the logits; nil: none.
    public var finalLogitSoftcapping: Double?
    /// Cap of the scores; nil: none.
    public var attnLogitSoftcapping: Double?
    /// Whether tokens see those after them too.
    public var useBidirectionalAttention: Bool?

    /// Refuses what is not built.
    func validate() throws(ModelError) {
        try requireWindow(slidingWindow)
        for (key, cap) in [
            ("final_logit_softcapping", finalLogitSoftcapping),
            ("attn_logit_softcapping", attnLogitSoftcapping),
            ("query_pre_attn_scalar", queryPreAttnScalar),
        ] {
            guard let cap, cap <= 0 else { continue }
            throw .invalidConfiguration(key: key, found: "\(cap)", expected: "a positive number")
        }
        guard useBidirectionalAttention != true else {
            throw .invalidConfiguration(
                key: "use_bidirectional_attention", found: "true",
                expected: "false: a causal language model")
        }
    }

    /// Builds a model whose blocks have four norms.
    ///
    /// - Parameters:
    ///   - decoder: the keys that families share.
    ///   - rotaries: the rotary embeddings.
    ///   - normalizesHeads: whether each head's query and key is normalized.
    ///   - scope: the root.
    ///   - makeOptions: adds to the options of the block with an index.
    /// - Returns: the model.
    /// - Throws: the source's error.
    func makeModel(
        _ decoder: DecoderConfig, rotaries: [RotarySettings], normalizesHeads: Bool,
        _ scope: Scope, _ makeOptions: (Int, inout SelfAttention.Options) -> Void
    ) throws -> DecoderModel {
        func norm(_ width: Int, _ scope: Scope) throws -> RMSNorm {
            try RMSNorm(
                hiddenSize: width, epsilon: decoder.rmsNormEps, offset: 1, roundsFirst: false,
                scope)
        }
        var ends = DecoderModel.Ends()
        ends.embeddingScale = Double(decoder.hiddenSize).squareRoot()
        ends.roundsEmbeddingScale = true
        ends.logitTransform = finalLogitSoftcapping.map { LogitTransform(softCap: $0) }
        func finalNorm(_ scope: Scope) throws -> any Normalization {
            try norm(decoder.hiddenSize, scope)
        }
        return try DecoderModel(
            decoder, ends: ends, rotaries: rotaries, scope, norm: finalNorm
        ) { index, block in
            var options = SelfAttention.Options(decoder)
            options.scale = 1 / queryPreAttnScalar.squareRoot()
            makeOptions(index, &options)
            func norms(_ before: String, _ after: String) throws -> DecoderBlock.Norms {
                DecoderBlock.Norms(
                    before: try norm(decoder.hiddenSize, block / before),
                    after: try norm(decoder.hiddenSize, block / after))
            }
            let makeHeadNorm = { (_: Int, scope: Scope) throws -> RMSNorm in
                try norm(decoder.headSize, scope)
            }
            return DecoderBlock(
                attentionNorms: try norms("input_layernorm", "post_attention_layernorm"),
                try decoder.attention(
                    options, block / "self_attn", bias: attentionBias,
                    outputBias: attentionBias, norm: normalizesHeads ? makeHeadNorm : nil),
                feedForwardNorms: try norms(
                    "pre_feedforward_layernorm", "post_feedforward_layernorm"),
                try decoder.gatedFeedForward(block / "mlp"))
        }
    }
}

/// Gemma 2: capped scores and logits, norms around each part, windows in every other block, GeGLU.
///
/// - Source: Gemma Team 2024, "Gemma 2"; transformers 5.23 `models/gemma2`.
public struct Gemma2Config: ModelConfig {
    /// The keys that families share.
    public var decoder: DecoderConfig = {
        var decoder = DecoderConfig.gemma
        decoder.vocabSize = 256_000
        decoder.maxPositionEmbeddings = 8192
        return decoder
    }()
    /// The keys of Gemma.
    public var options: GemmaOptions = {
        var options = GemmaOptions()
        options.finalLogitSoftcapping = 30
        options.attnLogitSoftcapping = 50
        return options
    }()

    /// The activation's name.
    public static let attributeMap = ["hidden_activation": "hidden_act"]
    /// Norms multiply by one more than their weight.
    public static let files = FileConventions.gemma

    /// Makes transformers' defaults.
    public init() {}

    /// Reads the keys of Gemma.
    public init(from decoder: any Decoder) throws { options = try GemmaOptions(from: decoder) }
    /// Writes the keys of Gemma.
    public func encode(to encoder: any Encoder) throws { try options.encode(to: encoder) }

    /// Refuses what is not built.
    public func validate() throws(ModelError) {
        try options.validate()
        _ = try decoder.rotarySettings()
    }

    /// Builds the model.
    public func makeModel(_ scope: Scope) throws -> DecoderModel {
        try options.makeModel(
            decoder, rotaries: [decoder.rotarySettings()], normalizesHeads: false, scope
        ) { index, attention in
            attention.softCap = options.attnLogitSoftcapping
            if decoder.isSliding(index, byDefault: { $0.isMultiple(of: 2) }) {
                attention.window = options.slidingWindow
            }
        }
    }
}

/// Gemma 3, text alone: normalized heads instead of capped scores, five blocks with windows to one without, each kind with
/// rotary frequencies of its own.
///
/// - Source: Gemma Team 2025, "Gemma 3 Technical Report"; transformers 5.23 `models/gemma3:Gemma3TextConfig`.
public struct Gemma3Config: ModelConfig {
    /// The keys that families share.
    public var decoder: DecoderConfig = {
        var decoder = DecoderConfig.gemma
        decoder.vocabSize = 262_208
        decoder.maxPositionEmbeddings = 131_072
        decoder.ropeTheta = 1_000_000
        return decoder
    }()
    /// The keys of Gemma.
    public var options = GemmaOptions()
    /// Base of the rotary frequencies of blocks with windows, in files of transformers 4.
    public var ropeLocalBaseFreq = 10_000.0
    /// Of so many blocks the last has no window, where `layer_types` does not say it.
    public var slidingWindowPattern = 6

    /// The activation's name.
    public static let attributeMap = ["hidden_activation": "hidden_act"]
    /// Norms multiply by one more than their weight.
    public static let files = FileConventions.gemma

    private enum CodingKeys: String, CodingKey { case ropeLocalBaseFreq, slidingWindowPattern }

    /// Makes transformers' defaults.
    public init() {}

    /// Reads the family's keys.
    public init(from decoder: any Decoder) throws {
        options = try GemmaOptions(from: decoder)
        let keys = try decoder.container(keyedBy: CodingKeys.self)
        ropeLocalBaseFreq = try keys.decode(Double.self, forKey: .ropeLocalBaseFreq)
        slidingWindowPattern = try keys.decode(Int.self, forKey: .slidingWindowPattern)
    }

    /// Writes the family's keys.
    public func encode(to encoder: any Encoder) throws {
        try options.encode(to: encoder)
        var keys = encoder.container(keyedBy: CodingKeys.self)
        try keys.encode(ropeLocalBaseFreq, forKey: .ropeLocalBaseFreq)
        try keys.encode(slidingWindowPattern, forKey: .slidingWindowPattern)
    }

    /// Refuses what is not built.
    public func validate() throws(ModelError) {
        try options.validate()
        guard options.attnLogitSoftcapping == nil else {
            throw .invalidConfiguration(
                key: "attn_logit_softcapping", found: "a number",
                expected: "null: transformers does not cap the scores of this family either")
        }
        guard slidingWindowPattern > 0 else {
            throw .invalidConfiguration(
                key: "sliding_window_pattern", found: "\(slidingWindowPattern)",
                expected: "a positive number")
        }
        _ = try rotaries()
    }

    /// Builds the model.
    public func makeModel(_ scope: Scope) throws -> DecoderModel {
        try options.makeModel(decoder, rotaries: rotaries(), normalizesHeads: true, scope) {
            index, attention in
            if decoder.isSliding(
                index, byDefault: { !($0 + 1).isMultiple(of: slidingWindowPattern) })
            {
                attention.window = options.slidingWindow
                attention.rotary = 1
            }
        }
    }

    /// Of blocks that see everything, and of blocks with windows; settings of transformers 4 are those of the former.
    private func rotaries() throws(ModelError) -> [RotarySettings] {
        var local = decoder
        local.ropeScaling = nil
        return [
            try decoder.rotarySettings { $0.fullAttention ?? $0.shared },
            try local.rotarySettings({ $0.slidingAttention }, theta: ropeLocalBaseFreq),
        ]
    }
}

extension FileConventions {
    fileprivate static let gemma: FileConventions = {
        var files = FileConventions()
        files.normWeight = 0
        return files
    }()
}

extension DecoderConfig {
    fileprivate static let gemma: DecoderConfig = {
        var decoder = DecoderConfig()
        decoder.hiddenSize = 2304
        decoder.intermediateSize = 9216
        decoder.numHiddenLayers = 26
        decoder.numAttentionHeads = 8
        decoder.numKeyValueHeads = 4
        decoder.headDim = 256
        decoder.hiddenAct = "gelu_pytorch_tanh"
        decoder.tieWordEmbeddings = true
        return decoder
    }()
}
