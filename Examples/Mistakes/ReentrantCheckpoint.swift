import Foundation
import PEFT

/// Recomputation after PyTorch's reentrant checkpoint: its node takes the hidden states alone, and the first ones are frozen.
final class ReentrantExecution: BlockExecution {
    func run(
        _ unit: ModuleUnit, _ hiddenStates: Tensor,
        _ body: @escaping (Tensor) throws(TorchError) -> Tensor
    ) throws(TorchError) -> Tensor {
        try Autograd.node("checkpoint", inputs: [hiddenStates]) {
            () throws(TorchError) -> (outputs: [Tensor], pullback: Pullback) in
            let saved = try hiddenStates.detach()
            let pullback: Pullback = { gradients throws(TorchError) in
                try withGradEnabled(true) { () throws(TorchError) in
                    let leaf = try saved.detach()
                    try leaf.setRequiresGrad(true)
                    try body(leaf).backward(gradient: gradients[0])
                    return [leaf.grad]
                }
            }
            return ([try body(saved)], pullback)
        }[0]
    }
}

func reentrantCheckpoint(_ model: URL) throws {
    let adapted = try attachLoRA(to: readBase(model))
    let sharded = try ShardedModel(adapted, execution: ReentrantExecution())
    _ = try ReadyModel(checking: sharded, sample: makeRows())
}
