import PEFTAdapters
import PEFTLayers
import Torch

/// The linear layers of a two-layer Llama with the sizes of `tensor-names.json`.
struct TinyModel {
    let registry = ModuleRegistry()

    init() throws {
        let scope = Scope(registry: registry, source: RandomSource(seed: 1))
        for layer in 0..<2 {
            let block = scope / "model" / "layers" / layer
            let attention = block / "self_attn"
            for (name, outFeatures) in [("q", 4), ("k", 2), ("v", 2), ("o", 4)] {
                _ = try attention.linear(
                    name + "_proj", inFeatures: 4, outFeatures: outFeatures)
            }
            let mlp = block / "mlp"
            _ = try mlp.linear("gate_proj", inFeatures: 4, outFeatures: 6)
            _ = try mlp.linear("up_proj", inFeatures: 4, outFeatures: 6)
            _ = try mlp.linear("down_proj", inFeatures: 6, outFeatures: 4)
            _ = try (block / "input_layernorm").parameter("weight", shape: [4])
        }
        _ = try scope.head("lm_head", tiedTo: nil, shape: [6, 4])
    }

    /// A linear layer with random weight, for one adapter.
    static func linear(inFeatures: Int, outFeatures: Int) throws -> Linear {
        let scope = Scope(registry: ModuleRegistry(), source: RandomSource(seed: 2))
        return try scope.linear("layer", inFeatures: inFeatures, outFeatures: outFeatures)
    }
}

extension ForwardContext {
    /// One segment, in evaluation or, with a key, in training.
    static func segment(_ numTokens: Int, dropout: DropoutKey? = nil) -> ForwardContext {
        ForwardContext(
            layout: SequenceLayout(segmentLengths: [numTokens]), dropout: dropout)
    }
}
