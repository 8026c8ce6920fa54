import Foundation
import PEFT

/// An adapter that is trained for 8-bit inference: it rounds, but has no gradient for rounding.
final class RoundedLoRA: LinearAdapter {
    private let inner: LoRA
    var parameters: [Parameter] { inner.parameters }

    init(_ inner: LoRA) { self.inner = inner }

    func apply(
        to input: Tensor, baseOutput: Tensor, weight: any LinearWeight, context: ForwardContext
    ) throws(TorchError) -> Tensor {
        let output = try inner.apply(
            to: input, baseOutput: baseOutput, weight: weight, context: context)
        return try (output * 16).to(.int32).to(output.dtype) * (1 / 16)
    }

    func changesNothing() throws(TorchError) -> Bool { try inner.changesNothing() }
}

func roundedOutput(_ model: URL) throws {
    let base = try readBase(model)
    let linear = base.model.units[0].linears[0]
    let lora = try LoRA(
        target: LoRATarget(path: linear.path, rank: 8, alpha: 8),
        inFeatures: linear.weight.inFeatures, outFeatures: linear.weight.outFeatures, seed: 1)
    linear.attach(RoundedLoRA(lora))
    let adapted = try attachLoRA(to: base, targets: .names(["down_proj"]))
    _ = try ReadyModel(checking: ShardedModel(adapted), sample: makeRows())
}
