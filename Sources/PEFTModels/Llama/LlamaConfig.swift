/// The configuration of a Llama model; property names are `config.json`'s in camel case.
///
/// - Source: transformers `models/llama/configuration_llama.py:LlamaConfig`, whose defaults these are.
public struct LlamaConfig: ModelConfig {
    /// Channels of the residual stream.
    public var hiddenSize = 4096
    /// Channels between gate/up and down.
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
    /// Added to the mean square in every norm.
    public var rmsNormEps = 1e-6
    /// Base of the rotary frequencies.
    public var ropeTheta = 10_000.0
    /// Rotary settings of transformers 5, which take precedence over ``ropeTheta``.
    public var ropeParameters: RopeParameters?
    /// Rotary settings of transformers 4.
    public var ropeScaling: RopeParameters?
    /// The activation of the gate.
    public var hiddenAct = "silu"
    /// Whether q, k, v and o have a bias.
    public var attentionBias = false
    /// Whether gate, up and down have a bias.
    public var mlpBias = false
    /// Whether the head's weight is the embedding's.
    public var tieWordEmbeddings = false

    /// Makes transformers' defaults.
    public init() {}

    /// The rotary settings that a file may carry.
    public struct RopeParameters: Codable, Hashable, Sendable {
        /// Base of the rotary frequencies.
        public var ropeTheta: Double?
        /// The scaling method; `default` means none.
        public var ropeType: String?
        /// The scaling method under its older name.
        public var type: String?

        var method: String { ropeType ?? type ?? "default" }
    }

    /// Key/value heads, resolved.
    public var keyValueHeads: Int { numKeyValueHeads ?? numAttentionHeads }
    /// Channels of a head, resolved.
    public var headSize: Int { headDim ?? hiddenSize / numAttentionHeads }
    /// Base of the rotary frequencies, resolved.
    public var rotaryBase: Double { ropeParameters?.ropeTheta ?? ropeTheta }

    /// Refuses sizes that do not fit together and mathematics that is not built.
    public func validate() throws(ModelError) {
        let sizes = [
            ("hidden_size", hiddenSize), ("intermediate_size", intermediateSize),
            ("num_hidden_layers", numHiddenLayers), ("num_attention_heads", numAttentionHeads),
            ("num_key_value_heads", keyValueHeads), ("vocab_size", vocabSize),
        ]
        for (key, size) in sizes where size < 1 {
            throw .invalidConfiguration(key: key, found: "\(size)", expected: "a positive number")
        }
        guard numAttentionHeads.isMultiple(of: keyValueHeads) else {
            throw .invalidConfiguration(
                key: "num_key_value_heads", found: "\(keyValueHeads)",
                expected: "a divisor of num_attention_heads, \(numAttentionHeads)")
        }
        guard headSize > 0, headSize.isMultiple(of: 2) else {
            throw .invalidConfiguration(
                key: "head_dim", found: "\(headSize)", expected: "a positive even number")
        }
        guard hiddenAct == "silu" else {
            throw .invalidConfiguration(
                key: "hidden_act", found: "\"\(hiddenAct)\"", expected: "\"silu\"")
        }
        for (key, rope) in [("rope_parameters", ropeParameters), ("rope_scaling", ropeScaling)] {
            guard let rope, rope.method != "default" else { continue }
            throw .invalidConfiguration(
                key: "\(key).rope_type", found: "\"\(rope.method)\"",
                expected: "\"default\": rotary scaling is not supported in this version")
        }
    }
}
