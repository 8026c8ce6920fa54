public import PEFTLayers

/// SmolLM3: Llama in which every fourth block has no positions.
///
/// - Source: transformers 5.23 `models/smollm3`; Yang et al. 2025, "RoPE to NoPE and Back Again" (blocks without positions).
public struct SmolLM3Config: ModelConfig {
    /// The keys that families share.
    public var decoder: DecoderConfig = {
        var decoder = DecoderConfig()
        decoder.vocabSize = 128_256
        decoder.hiddenSize = 2048
        decoder.numHiddenLayers = 36
        decoder.numAttentionHeads = 16
        decoder.numKeyValueHeads = 4
        decoder.maxPositionEmbeddings = 32_768
        decoder.ropeTheta = 2_000_000
        decoder.tieWordEmbeddings = true
        return decoder
    }()
    /// Whether ``slidingWindow`` is used at all.
    public var useSlidingWindow = false
    /// How many keys a token of a sliding block sees at most.
    public var slidingWindow: Int?
    /// For each block 1 if it has rotary positions, 0 if it has none; nil takes ``noRopeLayerInterval``.
    public var noRopeLayers: [Int]?
    /// Every so many blocks one has no positions.
    public var noRopeLayerInterval = 4
    /// Whether q, k, v and o have a bias.
    public var attentionBias = false
    /// Whether gate, up and down have a bias.
    public var mlpBias = false

    private enum CodingKeys: String, CodingKey {
        case useSlidingWindow, slidingWindow, noRopeLayers, noRopeLayerInterval, attentionBias
        case mlpBias
    }

    /// Makes transformers' defaults.
    public init() {}

    /// Refuses lists of another length than the model's, a window of no tokens, and rotary settings that are not known.
    public func validate() throws(ModelError) {
        try requireWindow(slidingWindow)
        if let noRopeLayers, noRopeLayers.count < decoder.numHiddenLayers {
            throw .invalidConfiguration(
                key: "no_rope_layers", found: "\(noRopeLayers.count) numbers",
                expected: "one for each of \(decoder.numHiddenLayers) layers")
        }
        guard noRopeLayerInterval > 0 else {
            throw .invalidConfiguration(
                key: "no_rope_layer_interval", found: "\(noRopeLayerInterval)",
                expected: "a positive number")
        }
        _ = try decoder.rotarySettings()
    }

    /// Builds the model.
    public func makeModel(_ scope: Scope) throws -> DecoderModel {
        try DecoderModel(
            decoder, rotaries: [decoder.rotarySettings()], scope, norm: decoder.rmsNorm
        ) { index, block in
            let options = attentionOptions(index)
            return try decoder.preNormBlock(
                block,
                attention: {
                    try decoder.attention(
                        options, $0, bias: attentionBias, outputBias: attentionBias)
                }, feedForward: { try decoder.gatedFeedForward($0, bias: mlpBias) })
        }
    }

    private func attentionOptions(_ index: Int) -> SelfAttention.Options {
        let hasPositions =
            noRopeLayers.map { $0[index] != 0 }
            ?? !(index + 1).isMultiple(of: noRopeLayerInterval)
        var options = SelfAttention.Options(decoder)
        options.rotary = hasPositions ? 0 : nil
        let isSliding = decoder.isSliding(index) { _ in !hasPositions }
        options.window = useSlidingWindow && isSliding ? slidingWindow : nil
        return options
    }
}
