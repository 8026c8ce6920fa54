import Foundation
import PEFT

/// Keeps no graph between blocks, to save memory: only the last block learns.
final class DetachingExecution: BlockExecution {
    func run(
        _ unit: ModuleUnit, _ hiddenStates: Tensor,
        _ body: @escaping (Tensor) throws(TorchError) -> Tensor
    ) throws(TorchError) -> Tensor {
        try body(hiddenStates.detach())
    }
}

func detachingExecution(_ model: URL) throws {
    let adapted = try attachLoRA(to: readBase(model))
    let sharded = try ShardedModel(adapted, execution: DetachingExecution())
    _ = try ReadyModel(checking: sharded, sample: makeRows())
}
