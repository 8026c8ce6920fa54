import Foundation
import PEFT

/// Leaves one block out for speed, though it has adapters.
final class SkippingExecution: BlockExecution {
    private let path: String

    init(skipping path: String) { self.path = path }

    func run(
        _ unit: ModuleUnit, _ hiddenStates: Tensor,
        _ body: @escaping (Tensor) throws(TorchError) -> Tensor
    ) throws(TorchError) -> Tensor {
        unit.path == path ? hiddenStates : try body(hiddenStates)
    }
}

func skippedBlock(_ model: URL) throws {
    let adapted = try attachLoRA(to: readBase(model))
    let skipped = adapted.base.model.units[1].path
    let sharded = try ShardedModel(adapted, execution: SkippingExecution(skipping: skipped))
    _ = try ReadyModel(checking: sharded, sample: makeRows())
}
