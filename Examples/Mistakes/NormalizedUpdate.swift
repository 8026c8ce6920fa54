import Foundation
import PEFT

/// `y = W x + u / |u|` with the update u of a LoRA, which starts as zero: 0 / 0.
final class NormalizedLoRA: LinearAdapter {
    private let inner: LoRA
    var parameters: [Parameter] { inner.parameters }

    init(_ inner: LoRA) { self.inner = inner }

    func apply(
        to input: Tensor, baseOutput: Tensor, weight: any LinearWeight, context: ForwardContext
    ) throws(TorchError) -> Tensor {
        let output = try inner.apply(
            to: input, baseOutput: baseOutput, weight: weight, context: context)
        let update = try output - baseOutput
        return try baseOutput + update / update.norm()
    }

    func changesNothing() throws(TorchError) -> Bool { try inner.changesNothing() }
}

func normalizedUpdate(_ model: URL) throws {
    let base = try readBase(model)
    let linear = base.model.units[0].linears[0]
    let lora = try LoRA(
        target: LoRATarget(path: linear.path, rank: 8, alpha: 8),
        inFeatures: linear.weight.inFeatures, outFeatures: linear.weight.outFeatures, seed: 1)
    linear.attach(NormalizedLoRA(lora))
    let adapted = try attachLoRA(to: base, targets: .names(["down_proj"]))
    _ = try ReadyModel(checking: ShardedModel(adapted), sample: makeRows())
}
