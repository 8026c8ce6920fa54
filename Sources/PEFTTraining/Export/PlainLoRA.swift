import PEFTAdapters
import PEFTLayers
import Torch

/// An adapter that took a part out of its base, as a LoRA that fits the base as it is.
///
/// With `A₀` and `B₀` that were taken out, `W - s B₀ A₀ + s B A = W + s [B, -B₀] [A; A₀]`: twice the rank at the same scaling.
///
/// - Source: peft 0.21.2 `tuners/lora/model.py:LoraModel.subtract_mutated_init`, `peft_model.py:PeftModel.save_pretrained`.
///
/// Differs from PEFT: other tensors of the adapter stay, and so does rsLoRA with patterns of ranks and alphas.
struct PlainLoRA {
    /// The configuration, with twice the ranks.
    let config: LoRAConfig
    /// The tensors by name.
    let tensors: [String: Tensor]

    /// Converts an adapter; nil if nothing was taken out of its base.
    ///
    /// - Parameter set: with its numbers.
    /// - Throws: `TorchError` if memory does not suffice.
    init?(_ set: AdapterSet) throws(TorchError) {
        guard let subtracted = set.subtracted, var config = set.config as? LoRAConfig else {
            return nil
        }
        var tensors: [String: Tensor] = [:]
        for parameter in set.parameters {
            tensors[parameter.path] = try parameter.value.detach()
        }
        for case let kasa as KaSA in set.adapters.map(\.adapter) {
            tensors[kasa.diagonal.path] = nil
            tensors[kasa.lora.loraA.path] = try kasa.scaledA()
        }
        for (name, parameter) in set.repeated { tensors[name] = try parameter.value.detach() }
        for name in subtracted.tensors.keys where name.hasSuffix(Self.suffix("A")) {
            let nameB = String(name.dropLast(Self.suffix("A").count)) + Self.suffix("B")
            guard let a = tensors[name], let b = tensors[nameB],
                let startA = subtracted.tensors[name], let startB = subtracted.tensors[nameB]
            else { preconditionFailure("\(name) has no B") }
            (tensors[name], tensors[nameB]) = try Self.matrices(
                a: a, b: b, without: LowRankUpdate(a: startA, b: startB, scaling: 1))
        }
        self.tensors = tensors
        let factor = config.useRslora ? 2.0.squareRoot() : 2
        config.r *= 2
        config.rankPattern = config.rankPattern.mapValues { $0 * 2 }
        config.loraAlpha *= factor
        config.alphaPattern = config.alphaPattern.mapValues { $0 * factor }
        self.config = config.startingPlainly
    }

    /// `[A; A₀]` and `[B, -B₀]`; A and B where nothing was taken out.
    static func matrices(
        a: Tensor, b: Tensor, without start: LowRankUpdate?
    ) throws(TorchError) -> (a: Tensor, b: Tensor) {
        guard let start else { return (a, b) }
        return (
            try Tensor.concatenated([a, start.a]),
            try Tensor.concatenated([b, start.b * -1], dim: 1)
        )
    }

    private static func suffix(_ matrix: String) -> String { ".lora_\(matrix).weight" }
}
