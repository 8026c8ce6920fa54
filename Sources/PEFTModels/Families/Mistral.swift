public import PEFTLayers

/// Mistral: Llama whose tokens see a window.
///
/// - Source: Jiang et al. 2023, "Mistral 7B"; transformers 5.23 `models/mistral`.
public struct MistralConfig: ModelConfig {
    /// The keys that families share.
    public var decoder: DecoderConfig = {
        var decoder = DecoderConfig()
        decoder.intermediateSize = 14_336
        decoder.numKeyValueHeads = 8
        decoder.maxPositionEmbeddings = 4096 * 32
        return decoder
    }()
    /// How many keys a token sees at most, itself among them; nil: all before it.
    public var slidingWindow: Int? = 4096

    private enum CodingKeys: String, CodingKey { case slidingWindow }

    /// Makes transformers' defaults.
    public init() {}

    /// Refuses a window of no tokens, and rotary settings that are not known.
    public func validate() throws(ModelError) {
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
            try decoder.preNormBlock(block) {
                try decoder.attention(options, $0)
            }
        }
    }
}

/// Ministral: Mistral whose blocks have a window each or none, as `layer_types` says.
///
/// - Source: transformers 5.23 `models/ministral`.
public struct MinistralConfig: ModelConfig {
    /// The keys that families share.
    public var decoder = MistralConfig().decoder
    /// How many keys a token of a sliding block sees at most, itself among them; nil: all before it.
    public var slidingWindow: Int? = MistralConfig().slidingWindow

    private enum CodingKeys: String, CodingKey { case slidingWindow }

    /// Makes transformers' defaults.
    public init() {}

    /// Refuses a window of no tokens, and rotary settings that are not known.
    public func validate() throws(ModelError) {
        try requireWindow(slidingWindow)
        _ = try decoder.rotarySettings()
    }

    /// Builds the model.
    public func makeModel(_ scope: Scope) throws -> DecoderModel {
        try DecoderModel(
            decoder, rotaries: [decoder.rotarySettings()], scope, norm: decoder.rmsNorm
        ) { index, block in
            var options = SelfAttention.Options(decoder)
            options.window = decoder.isSliding(index) { _ in true } ? slidingWindow : nil
            return try decoder.preNormBlock(block) {
                try decoder.attention(options, $0)
            }
        }
    }
}

/// Refuses a window of no tokens.
func requireWindow(_ window: Int?) throws(ModelError) {
    guard let window, window < 1 else { return }
    throw .invalidConfiguration(
        key: "sliding_window", found: "\(window)", expected: "a positive number, or null")
}
