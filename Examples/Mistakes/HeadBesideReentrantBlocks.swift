import Foundation
import PEFT

/// The head gets its gradient, so the loss falls; the blocks get none.
func headBesideReentrantBlocks(_ model: URL) throws {
    let adapted = try attachLoRA(
        to: readBase(model), targets: .names(["q_proj", "v_proj", "lm_head"]))
    let sharded = try ShardedModel(adapted, execution: ReentrantExecution())
    _ = try ReadyModel(checking: sharded, sample: makeRows())
}
