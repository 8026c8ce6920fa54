import Foundation
import PEFT

/// A method of one's own over LoRA, which does not pass on that it is to be trained.
struct FrozenLoRAConfig: AdapterConfig {
    static let peftType = "FROZEN_LORA"
    var lora = LoRAConfig(targetModules: .names(["q_proj", "v_proj"]))
    var baseModelNameOrPath: String?

    init() {}

    init(adapterConfigJSON data: Data) throws(AdapterError) {
        lora = try LoRAConfig(adapterConfigJSON: data)
    }

    func adapterConfigJSON() -> Data { lora.adapterConfigJSON() }

    func validate() throws(AdapterError) { try lora.validate() }

    func attach(
        to registry: ModuleRegistry, seed: UInt64, isTrainable: Bool
    ) throws(AdapterError) -> AdapterSet {
        try lora.attach(to: registry, seed: seed, isTrainable: false)
    }
}

func frozenMethod(_ model: URL) throws {
    let adapted = try AdaptedModel(readBase(model), adapter: FrozenLoRAConfig(), seed: 1)
    _ = try ReadyModel(checking: ShardedModel(adapted), sample: makeRows())
}
