import Foundation
import PEFT

/// Training goes on from an adapter that was loaded as for inference.
func adapterForInference(_ model: URL, adapter: URL) throws {
    let adapted = try AdaptedModel(readBase(model), loading: adapter, isTrainable: false)
    _ = try ReadyModel(checking: ShardedModel(adapted), sample: makeRows())
}
