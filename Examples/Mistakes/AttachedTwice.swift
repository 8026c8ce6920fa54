import Foundation
import PEFT

/// A second adapter is attached where the first one still is, as in a notebook's cell that is run twice.
func attachedTwice(_ model: URL) throws {
    let base = try readBase(model)
    for _ in 1...2 {
        let adapted = try attachLoRA(to: base)
        _ = try ReadyModel(checking: ShardedModel(adapted), sample: makeRows())
    }
}
