import Foundation
import PEFT

/// A decoder of one's own: attention and feed-forward side by side, one norm a block.
struct TinyDecoderConfig: ModelConfig {
    /// The keys that families share: sizes, epsilon, rotary base.
    var decoder = DecoderConfig()

    // No key of its own.
    private enum CodingKeys: CodingKey {}

    init() {}

    func makeModel(_ scope: Scope) throws -> TinyDecoder { try TinyDecoder(decoder, scope) }
}

/// Tokens to hidden states to logits; N tokens, C hidden, H heads of D.
final class TinyDecoder: CausalLanguageModel {
    let vocabularySize: Int
    let maxPositionEmbeddings: Int
    let inputEmbedding: Embedding
    let units: [ModuleUnit]
    let head: Linear
    private let blocks: [Block]
    private let norm: RMSNorm
    private let rotary: RotaryEmbedding

    /// Asks the scope's source for every tensor once, under the names that the files have.
    init(_ config: DecoderConfig, _ scope: Scope) throws {
        vocabularySize = config.vocabSize
        maxPositionEmbeddings = config.maxPositionEmbeddings
        let model = scope / "model"
        inputEmbedding = try Embedding(
            vocabularySize: config.vocabSize, hiddenSize: config.hiddenSize, model / "embed_tokens")
        let made = try (0..<config.numHiddenLayers).map { index in
            try (model / "layers").unit(index) { try Block(config, $0) }
        }
        blocks = made.map(\.block)
        units = made.map(\.unit)
        norm = try RMSNorm(
            hiddenSize: config.hiddenSize, epsilon: config.rmsNormEps, model / "norm")
        head = try scope.head(
            "lm_head", tiedTo: nil, shape: [config.vocabSize, config.hiddenSize])
        rotary = try RotaryEmbedding(
            headDim: config.hiddenSize / config.numAttentionHeads, theta: 10_000)
    }

    func hiddenStates(
        _ tokens: Tensor, context: ForwardContext, execution: any BlockExecution
    ) throws(TorchError) -> Tensor {
        var hidden = try execution.atEnd(.input) { () throws(TorchError) in
            try inputEmbedding(tokens)
        }
        let rotation = try rotary.rotation(
            for: context.layout, dtype: hidden.dtype, on: hidden.device)
        for (block, unit) in zip(blocks, units) {
            // The execution decides: recomputed, gathered from other processes, or as it is.
            hidden = try execution(unit, hidden) { input throws(TorchError) in
                try block(input, rotation: rotation, context: context)
            }
        }
        return try norm(hidden)
    }
}

/// `y = x + attention(norm x) + feedForward(norm x)`.
private final class Block {
    private let numHeads: Int
    private let norm: RMSNorm
    private let query: Linear
    private let key: Linear
    private let value: Linear
    private let output: Linear
    private let gate: Linear
    private let up: Linear
    private let down: Linear

    init(_ config: DecoderConfig, _ scope: Scope) throws {
        let (hidden, inner) = (config.hiddenSize, config.intermediateSize)
        numHeads = config.numAttentionHeads
        norm = try RMSNorm(hiddenSize: hidden, epsilon: config.rmsNormEps, scope / "norm")
        query = try scope.linear("q_proj", inFeatures: hidden, outFeatures: hidden)
        key = try scope.linear("k_proj", inFeatures: hidden, outFeatures: hidden)
        value = try scope.linear("v_proj", inFeatures: hidden, outFeatures: hidden)
        output = try scope.linear("o_proj", inFeatures: hidden, outFeatures: hidden)
        gate = try scope.linear("gate_proj", inFeatures: hidden, outFeatures: inner)
        up = try scope.linear("up_proj", inFeatures: hidden, outFeatures: inner)
        down = try scope.linear("down_proj", inFeatures: inner, outFeatures: hidden)
    }

    func callAsFunction(
        _ input: Tensor, rotation: RotaryEmbedding.Rotation, context: ForwardContext
    ) throws(TorchError) -> Tensor {
        let normed = try norm(input)
        func heads(_ linear: Linear) throws(TorchError) -> Tensor {
            try linear(normed, context: context).reshape([input.shape[0], numHeads, -1])
        }
        let query = try rotation(heads(query))
        let headDim = query.shape[2]
        let attended = try Attention.causal(
            query: query, key: rotation(heads(key)), value: heads(value), layout: context.layout,
            scale: 1 / Double(headDim).squareRoot())  // [N, H, D]
        let inner = try SwiGLU.apply(
            gate: gate(normed, context: context), up: up(normed, context: context))
        return try input + output(attended.reshape([input.shape[0], -1]), context: context)
            + down(inner, context: context)
    }
}
