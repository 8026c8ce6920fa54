public import PEFTLayers
public import Torch

// N tokens of all segments, C hidden, H query heads, G key/value heads, D head dimension, F intermediate, V vocabulary.

/// The Llama decoder: embedding, blocks of attention and SwiGLU, final norm, head.
///
/// - Source: Touvron et al. 2023; transformers `models/llama/modeling_llama.py:LlamaForCausalLM`.
public final class LlamaModel: CausalLanguageModel {
    /// The sizes that it was built with.
    public let config: LlamaConfig
    /// The decoder blocks, in order.
    public let units: [ModuleUnit]
    /// The output head, `[V, C]`, tied to the embedding or of its own.
    public let head: Linear

    /// The layer that tokens enter by.
    public var inputEmbedding: Embedding { embedTokens }

    private let embedTokens: Embedding
    private let layers: [LlamaDecoderLayer]
    private let norm: RMSNorm
    private let rotary: RotaryEmbedding

    /// Builds the model, asking the scope's source for each tensor once.
    ///
    /// - Throws: the source's error.
    public init(_ config: LlamaConfig, _ scope: Scope) throws {
        self.config = config
        let model = scope / "model"
        embedTokens = try Embedding(
            vocabularySize: config.vocabSize, hiddenSize: config.hiddenSize, model / "embed_tokens")
        var layers: [LlamaDecoderLayer] = []
        var units: [ModuleUnit] = []
        for index in 0..<config.numHiddenLayers {
            let (layer, unit) = try (model / "layers").unit(index) { scope in
                try LlamaDecoderLayer(config, index: index, scope)
            }
            layers.append(layer)
            units.append(unit)
        }
        self.layers = layers
        self.units = units
        norm = try RMSNorm(
            hiddenSize: config.hiddenSize, epsilon: config.rmsNormEps, model / "norm")
        head = try scope.head(
            "lm_head", tiedTo: config.tieWordEmbeddings ? embedTokens.weight : nil,
            shape: [config.vocabSize, config.hiddenSize])
        rotary = try RotaryEmbedding(headDim: config.headSize, theta: config.rotaryBase)
    }

    /// Rows of embedding and head.
    public var vocabularySize: Int { config.vocabSize }
    /// The longest trained sequence.
    public var maxPositionEmbeddings: Int { config.maxPositionEmbeddings }

    /// Runs embedding, blocks and final norm.
    public func hiddenStates(
        _ tokens: Tensor, context: ForwardContext, execution: any BlockExecution
    ) throws(TorchError) -> Tensor {
        var hidden = try execution.atEnd(.input) { () throws(TorchError) in
            try embedTokens(tokens)  // [N, C]
        }
        let rotation = try rotary.rotation(
            for: context.layout, dtype: hidden.dtype, on: hidden.device)
        for (layer, unit) in zip(layers, units) {
            hidden = try execution(unit, hidden) { input throws(TorchError) in
                try layer(input, rotation: rotation, context: context)
            }
        }
        return try norm(hidden)
    }
}

/// One block: `h += attention(norm(h))`, then `h += mlp(norm(h))`.
final class LlamaDecoderLayer {
    private let inputLayernorm: RMSNorm
    private let selfAttention: LlamaAttention
    private let postAttentionLayernorm: RMSNorm
    private let mlp: LlamaMLP

    init(_ config: LlamaConfig, index: Int, _ scope: Scope) throws {
        inputLayernorm = try RMSNorm(
            hiddenSize: config.hiddenSize, epsilon: config.rmsNormEps, scope / "input_layernorm")
        selfAttention = try LlamaAttention(config, index: index, scope / "self_attn")
        postAttentionLayernorm = try RMSNorm(
            hiddenSize: config.hiddenSize, epsilon: config.rmsNormEps,
            scope / "post_attention_layernorm")
        mlp = try LlamaMLP(config, scope / "mlp")
    }

    func callAsFunction(
        _ input: Tensor, rotation: RotaryEmbedding.Rotation, context: ForwardContext
    ) throws(TorchError) -> Tensor {
        let attended = try selfAttention(
            inputLayernorm.recomputable(input), rotation: rotation, context: context)
        let hidden = try input + attended
        let transformed = try mlp(
            postAttentionLayernorm.recomputable(hidden), context: context)
        return try hidden + transformed
    }
}

/// Grouped-query attention with rotary positions.
final class LlamaAttention {
    private let qProj: Linear
    private let kProj: Linear
    private let vProj: Linear
    private let oProj: Linear
    private let index: Int
    private let headDim: Int
    private let scale: Double

    init(_ config: LlamaConfig, index: Int, _ scope: Scope) throws {
        self.index = index
        headDim = config.headSize
        scale = 1 / Double(headDim).squareRoot()
        let queryWidth = config.numAttentionHeads * headDim
        let keyValueWidth = config.keyValueHeads * headDim
        let (hidden, bias) = (config.hiddenSize, config.attentionBias)
        qProj = try scope.linear(
            "q_proj", inFeatures: hidden, outFeatures: queryWidth, bias: bias)
        kProj = try scope.linear(
            "k_proj", inFeatures: hidden, outFeatures: keyValueWidth, bias: bias)
        vProj = try scope.linear(
            "v_proj", inFeatures: hidden, outFeatures: keyValueWidth, bias: bias)
        oProj = try scope.linear(
            "o_proj", inFeatures: queryWidth, outFeatures: hidden, bias: bias)
    }

    func callAsFunction(
        _ input: Recomputable, rotation: RotaryEmbedding.Rotation, context: ForwardContext
    ) throws(TorchError) -> Tensor {
        let numTokens = input.value.shape[0]
        let query = try rotation(heads(qProj(input, context: context)))  // [N, H, D]
        let key = try rotation(heads(kProj(input, context: context)))  // [N, G, D]
        let value = try heads(vProj(input, context: context))  // [N, G, D]
        let attended = try attend(query, key, value, context)
        return try oProj(attended.reshape([numTokens, -1]), context: context)
    }

    private func attend(
        _ query: Tensor, _ key: Tensor, _ value: Tensor, _ context: ForwardContext
    ) throws(TorchError) -> Tensor {
        if let cache = context.cache {
            let all = try cache.append(layer: index, keys: key, values: value)
            if query.shape[0] == 1 {
                return try Attention.newest(
                    query: query, key: all.keys, value: all.values, scale: scale)
            }
            precondition(
                context.layout.firstPosition == 0, "several tokens go into an empty cache only")
        }
        return try Attention.causal(
            query: query, key: key, value: value, layout: context.layout, scale: scale)
    }

    /// `[N, heads * D] -> [N, heads, D]`.
    private func heads(_ states: Tensor) throws(TorchError) -> Tensor {
        try states.reshape([states.shape[0], -1, headDim])
    }
}

/// `down(silu(gate(x)) * up(x))`.
final class LlamaMLP {
    private let gateProj: Linear
    private let upProj: Linear
    private let downProj: Linear

    init(_ config: LlamaConfig, _ scope: Scope) throws {
        let (hidden, wide, bias) = (config.hiddenSize, config.intermediateSize, config.mlpBias)
        gateProj = try scope.linear("gate_proj", inFeatures: hidden, outFeatures: wide, bias: bias)
        upProj = try scope.linear("up_proj", inFeatures: hidden, outFeatures: wide, bias: bias)
        downProj = try scope.linear("down_proj", inFeatures: wide, outFeatures: hidden, bias: bias)
    }

    func callAsFunction(
        _ input: Recomputable, context: ForwardContext
    ) throws(TorchError) -> Tensor {
        let gate = try gateProj(input, context: context)
        let up = try upProj(input, context: context)
        return try downProj(
            SwiGLU.recomputable(gate: gate, up: up), context: context)
    }
}
