import PEFTLayers
import PEFTSharding
import Testing
import Torch

@Suite struct UnitLayoutTests {
    /// Odd sizes, several dtypes, and blocks of 32 elements, two to a byte.
    private func plan() throws -> LayoutPlan {
        let plan = LayoutPlan()
        for block in 0..<2 {
            let path = "layers.\(block)"
            for shape in [
                PlacedShape(path: "\(path).norm.weight", shape: [37], dtype: .bfloat16),
                PlacedShape(path: "\(path).up.weight", shape: [1001], dtype: .uint8, granule: 16),
                PlacedShape(path: "\(path).up.weight", part: "absmax", shape: [63], dtype: .uint8),
                PlacedShape(
                    path: "\(path).up.weight", part: "nested_absmax", shape: [1], dtype: .float32),
            ] {
                _ = try plan.place(shape)
            }
        }
        _ = try plan.place(PlacedShape(path: "embed.weight", shape: [61, 3], dtype: .float32))
        _ = try plan.place(PlacedShape(path: "norm.weight", shape: [3], dtype: .float32))
        return plan
    }

    @Test func blocksAndOuterMatricesAreUnitsAndOuterVectorsStayWhole() throws {
        let layouts = try plan().layouts(blocks: ["layers.0", "layers.1"], numShards: 2)
        #expect(layouts.map(\.path) == ["layers.0", "layers.1", "embed.weight"])
        #expect(layouts.map(\.tensors.count) == [4, 4, 1])
    }

    /// So each element of the files is read by exactly one process.
    @Test(arguments: 1...7)
    func theShardsTakeEachElementOnceAndCutBetweenBlocks(numShards: Int) throws {
        for layout in try plan().layouts(blocks: ["layers.0", "layers.1"], numShards: numShards) {
            for (index, tensor) in layout.tensors.enumerated() {
                var next = 0
                for shard in 0..<numShards {
                    let range = layout.elements(of: index, inShard: shard)
                    #expect(range.lowerBound == next)
                    #expect(
                        range.upperBound % tensor.granule == 0
                            || range.upperBound == tensor.numElements)
                    next = range.upperBound
                }
                #expect(next == tensor.numElements)
            }
        }
    }

    /// Even shards: what one process holds more than its part is at most the granules of the cut.
    @Test(arguments: [1, 2, 4])
    func shardsAreOfOneSizeAndDoNotOverlap(numShards: Int) throws {
        for layout in try plan().layouts(blocks: ["layers.0", "layers.1"], numShards: numShards) {
            #expect(layout.shardBytes * numShards == layout.sizeBytes)
            let ends = zip(layout.offsets, layout.tensors).map { $0 + $1.sizeBytes }
            for (end, next) in zip(ends, layout.offsets.dropFirst()) { #expect(end <= next) }
            let last = try #require(ends.last)
            #expect((last..<last + 64 * numShards).contains(layout.sizeBytes))
        }
    }

    @Test(arguments: [
        ("full", ShardingStrategy.full), ("grad-op", .gradOp), ("none", .none),
        ("hybrid:4", .hybrid(ranksPerGroup: 4)),
    ])
    func strategiesHaveNames(text: String, strategy: ShardingStrategy) {
        #expect(ShardingStrategy(text) == strategy)
        #expect(strategy.description == text)
    }

    @Test(arguments: ["", "hybrid", "hybrid:", "hybrid:0", "hybrid:-1", "hybrid:2:2", "FULL"])
    func otherNamesAreNone(text: String) {
        #expect(ShardingStrategy(text) == nil)
    }
}
