public import PEFTLayers

/// The window of Qwen's blocks: off, or on from a block on.
public struct QwenWindow: Codable, Hashable, Sendable {
    /// Whether ``slidingWindow`` is used at all.
    public var useSlidingWindow = false
    /// How many keys a token of a sliding block sees at most.
    public var slidingWindow: Int? = 4096
    /// The first block with a window, where `layer_types` does not say it.
    public var maxWindowLayers = 28

    func window(_ index: Int, _ decoder: DecoderConfig) -> Int? {
        guard useSlidingWindow, let slidingWindow else { return nil }
        return decoder.isSliding(index) { $0 >= maxWindowLayers } ? slidingWindow : nil
    }
}

/// Qwen 2 and 2.5: Llama with biases of query, key and value.
///
/// - Source: Yang et al. 2024, "Qwen2 Technical Report"; transformers 5.23 `models/qwen2`.
public struct Qwen2Config: ModelConfig {
    /// The keys that families share.
    public var decoder = DecoderConfig.qwen
    /// Whether and where tokens see a window.
    public var window = QwenWindow()

    /// Makes transformers' defaults.
    public init() {}

    /// Reads the keys of the window.
    public init(from decoder: any Decoder) throws { window = try QwenWindow(from: decoder) }
    /// Writes the keys of the window.
    public func encode(to encoder: any Encoder) throws { try window.encode(to: encoder) }

    /// Refuses a window of no tokens, and rotary settings that are not known.
    public func validate() throws(ModelError) {
        try requireWindow(window.slidingWindow)
        _ = try decoder.rotarySettings()
    }

    /// Builds the model.
    public func makeModel(_ scope: Scope) throws -> DecoderModel {
        try DecoderModel(
            decoder, rotaries: [decoder.rotarySettings()], scope, norm: decoder.rmsNorm
        ) { index, block in
            var options = SelfAttention.Options(decoder)
            options.window = window.window(index, decoder)
            return try decoder.preNormBlock(block) {
                try decoder.attention(options, $0, bias: true)
            }
        }
    }
}

/// Qwen 3: Llama whose heads' queries and keys are normalized.
///
/// - Source: Yang et al. 2025, "Qwen3 Technical Report"; transformers 5.23 `models/qwen3`.
public struct Qwen3Config: ModelConfig {
    /// The keys that families share.
    public var decoder: DecoderConfig = {
        var decoder = DecoderConfig.qwen
        decoder.headDim = 128
        return decoder
    }()
    /// Whether and where tokens see a window.
    public var window = QwenWindow()
    /// Whether q, k, v and o have a bias.
    public var attentionBias = false

    private enum CodingKeys: String, CodingKey { case attentionBias }

    /// Makes transformers' defaults.
    public init() {}

    /// Reads the family's keys.
    public init(from decoder: any Decoder) throws {
        window = try QwenWindow(from: decoder)
        attentionBias = try decoder.container(keyedBy: CodingKeys.self)
            .decode(Bool.self, forKey: .attentionBias)
    }

    /// Writes the family's keys.
    public func encode(to encoder: any Encoder) throws {
        try window.encode(to: encoder)
        var keys = encoder.container(keyedBy: CodingKeys.self)
        try keys.encode(attentionBias, forKey: .attentionBias)
    }

    /// Refuses a window of no tokens, and rotary settings that are not known.
    public func validate() throws(ModelError) {
        try requireWindow(window.slidingWindow)
        _ = try decoder.rotarySettings()
    }

    /// Builds the model.
    public func makeModel(_ scope: Scope) throws -> DecoderModel {
        try DecoderModel(
            decoder, rotaries: [decoder.rotarySettings()], scope, norm: decoder.rmsNorm
        ) { index, block in
            var options = SelfAttention.Options(decoder)
            options.window = window.window(index, decoder)
            return try decoder.preNormBlock(block) {
                try decoder.attention(
                    options, $0, bias: attentionBias, outputBias: attentionBias
                ) { _, scope in
                    try RMSNorm(
                        hiddenSize: decoder.headSize, epsilon: decoder.rmsNormEps, scope)
                }
            }
        }
    }
}

extension DecoderConfig {
    fileprivate static let qwen: DecoderConfig = {
        var decoder = DecoderConfig()
        decoder.vocabSize = 151_936
        decoder.intermediateSize = 22_016
        decoder.numKeyValueHeads = 32
        decoder.maxPositionEmbeddings = 32_768
        return decoder
    }()
}
