import PEFTLayers

/// The keys of `config.json` that decoder families share; property names are the keys in camel case.
///
/// The defaults are those of transformers' Llama; a family whose defaults differ sets them in its own `init`.
///
/// - Source: transformers 5.23 `models/llama/configuration_llama.py:LlamaConfig`.
public struct DecoderConfig: Codable, Hashable, Sendable {
    /// Channels of the residual stream.
    public var hiddenSize = 4096
    /// Channels of the feed-forward part.
    public var intermediateSize = 11_008
    /// Decoder blocks.
    public var numHiddenLayers = 32
    /// Query heads.
    public var numAttentionHeads = 32
    /// Key/value heads; nil means as many as query heads.
    public var numKeyValueHeads: Int?
    /// Channels of a head; nil means hidden size over query heads.
    public var headDim: Int?
    /// Rows of embedding and head.
    public var vocabSize = 32_000
    /// The longest trained sequence.
    public var maxPositionEmbeddings = 2048
    /// Added to the mean square in every RMSNorm.
    public var rmsNormEps = 1e-6
    /// Base of the rotary frequencies, where the rotary settings do not say it.
    public var ropeTheta = 10_000.0
    /// Rotary settings of transformers 5.
    public var ropeParameters: RopeSettings?
    /// Rotary settings of transformers 4, which take precedence, as there.
    public var ropeScaling: RopeSettings?
    /// The longest sequence before rotary scaling, where it stands beside the rotary settings.
    public var originalMaxPositionEmbeddings: Int?
    /// The share of a head's channels that is rotated, where the rotary settings do not say it.
    public var partialRotaryFactor: Double?
    /// The activation of the feed-forward part, one of ``Activation``.
    public var hiddenAct = "silu"
    /// Whether the head's weight is the embedding's.
    public var tieWordEmbeddings = false
    /// The attention of each block, `full_attention` or `sliding_attention`; nil means the family's own order.
    public var layerTypes: [String]?

    /// Makes Llama's defaults.
    public init() {}

    /// Key/value heads, resolved.
    public var keyValueHeads: Int { numKeyValueHeads ?? numAttentionHeads }
    /// Channels of a head, resolved.
    public var headSize: Int { headDim ?? hiddenSize / numAttentionHeads }
    /// The activation, resolved; SiLU for a name that ``validate()`` refuses.
    var activation: Activation { Activation(rawValue: hiddenAct) ?? .silu }

    /// Whether a block attends within a window.
    func isSliding(_ index: Int, byDefault pattern: (Int) -> Bool) -> Bool {
        layerTypes.map { $0[index] == "sliding_attention" } ?? pattern(index)
    }

    /// Refuses sizes that do not fit together and names that are not known.
    func validate() throws(ModelError) {
        let sizes = [
            ("hidden_size", hiddenSize), ("intermediate_size", intermediateSize),
            ("num_hidden_layers", numHiddenLayers), ("num_attention_heads", numAttentionHeads),
            ("num_key_value_heads", keyValueHeads), ("vocab_size", vocabSize),
            ("max_position_embeddings", maxPositionEmbeddings),
        ]
        for (key, size) in sizes where size < 1 {
            throw .invalidConfiguration(key: key, found: "\(size)", expected: "a positive number")
        }
        guard numAttentionHeads.isMultiple(of: keyValueHeads) else {
            throw .invalidConfiguration(
                key: "num_key_value_heads", found: "\(keyValueHeads)",
                expected: "a divisor of num_attention_heads, \(numAttentionHeads)")
        }
        guard headSize > 0 else {
            throw .invalidConfiguration(
                key: "head_dim", found: "\(headSize)", expected: "a positive number")
        }
        guard Activation(rawValue: hiddenAct) != nil else {
            let known = Activation.allCases.map { "\"\($0.rawValue)\"" }.joined(separator: ", ")
            throw .invalidConfiguration(
                key: "hidden_act", found: "\"\(hiddenAct)\"", expected: "one of \(known)")
        }
        let kinds = ["full_attention", "sliding_attention"]
        guard let layerTypes else { return }
        guard layerTypes.count == numHiddenLayers, layerTypes.allSatisfy(kinds.contains) else {
            throw .invalidConfiguration(
                key: "layer_types", found: "\(layerTypes)",
                expected:
                    "full_attention or sliding_attention for each of \(numHiddenLayers) layers")
        }
    }
}
