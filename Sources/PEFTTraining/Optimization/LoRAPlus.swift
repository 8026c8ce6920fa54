package import PEFTLayers
import Torch

/// LoRA+: B learns faster than A, adapters of embeddings at a rate of their own.
///
/// - Source: Hayou et al. 2024, "LoRA+", section 4; peft 0.21.2 `optimizers/loraplus.py:create_loraplus_optimizer`.
public struct LoRAPlus: Sendable, Hashable {
    /// The learning rate of B, and of vectors, as a multiple of A's.
    public var ratio: Double
    /// The learning rate of embeddings' adapters, as a multiple of A's.
    public var embeddingRatio: Double

    /// Describes the groups.
    public init(ratio: Double, embeddingRatio: Double) {
        self.ratio = ratio
        self.embeddingRatio = embeddingRatio
    }
}

extension Optimizer.Groups {
    /// The learning rate of a tensor as a multiple of the schedule's.
    package func learningRateRatio(of parameter: Parameter) -> Double {
        guard let loRAPlus else { return 1 }
        if parameter.path.contains("lora_embedding_") { return loRAPlus.embeddingRatio }
        let isB = parameter.path.contains("lora_B") || parameter.value.shape.count == 1
        return isB ? loRAPlus.ratio : 1
    }

    /// What of a tensor decays at learning rate one: nothing of biases and of norms.
    ///
    /// - Source: transformers 5.23 `trainer.py:get_decay_parameter_names`.
    package func weightDecay(of parameter: Parameter) -> Double {
        let name = parameter.path.lowercased()
        let isNorm = name.split(separator: ".").contains { $0 == "norm" || $0.hasSuffix("_norm") }
        let isExempt =
            isNorm || ["bias", "layernorm", "rmsnorm"].contains { name.contains($0) }
        return isExempt ? 0 : weightDecay
    }
}
