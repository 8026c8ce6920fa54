public import PEFTLayers

extension LoRAConfig {
    /// The most blocks of a model, so that what a file says takes no memory to speak of.
    private static let maxBlocks = 10_000

    /// The blocks of the base that the adapted model is made of; nil for the base's own, or for ranges that ``validate()`` refuses.
    public var blockOrder: BlockOrder? {
        guard let layerReplication, replicationProblems.isEmpty else { return nil }
        return BlockOrder(layerReplication.flatMap { Array($0[0]..<$0[1]) })
    }

    /// Ranges that are none, and starts that take something out of weights that copies share.
    var replicationProblems: [AdapterConfigProblem] {
        guard let layerReplication else { return [] }
        let key = "layer_replication"
        var problems: [AdapterConfigProblem] = []
        let areRanges = layerReplication.allSatisfy {
            $0.count == 2 && $0[0] >= 0 && $0[0] < $0[1] && $0[1] <= Self.maxBlocks
        }
        let isShort =
            areRanges && layerReplication.reduce(0) { $0 + $1[1] - $1[0] } <= Self.maxBlocks
        if layerReplication.isEmpty || !isShort {
            problems.append(
                .wrongValue(
                    key: key,
                    expected: "null or ranges [from, to] of blocks, from below to, at most "
                        + "\(Self.maxBlocks) blocks in all",
                    found: layerReplication.configValue.description))
        }
        if readsWeight || initLoraWeights.readsRows {
            problems.append(
                .conflict(
                    key: key, other: startOption,
                    remedy: "set init_lora_weights to true and kasa_config to null"))
        }
        return problems
    }

    /// Refuses a base that was read with other blocks.
    func requireBlocks(of registry: ModuleRegistry) throws(AdapterError) {
        let (expected, found) = (registry.blockOrder?.blocks, blockOrder?.blocks)
        guard expected != found else { return }
        throw .invalidConfig([
            .wrongValue(
                key: "layer_replication",
                expected:
                    "the blocks that the base was read with (\(expected.map { "\($0)" } ?? "its own"))",
                found: found.map { "\($0)" } ?? "its own")
        ])
    }
}
