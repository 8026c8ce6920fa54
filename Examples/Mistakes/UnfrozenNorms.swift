import Foundation
import PEFT

/// The norms of the base are to learn too, but no optimizer updates them.
func unfrozenNorms(_ model: URL) throws {
    let base = try readBase(model)
    for parameter in base.registry.frozenParameters where parameter.path.contains("norm") {
        try parameter.value.setRequiresGrad(true)
    }
    let sharded = try ShardedModel(attachLoRA(to: base))
    _ = try ReadyModel(checking: sharded, sample: makeRows())
}
