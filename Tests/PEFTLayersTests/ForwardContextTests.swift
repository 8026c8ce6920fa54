import PEFTLayers
import Testing

@Suite struct SequenceLayoutTests {
    @Test func positionsStartAgainInEachSegment() {
        let layout = SequenceLayout(segmentLengths: [3, 1, 2])
        #expect(layout.positions == [0, 1, 2, 0, 0, 1])
        #expect(layout.numTokens == 6)
    }

    @Test func positionsGoOnAfterCachedTokens() {
        let layout = SequenceLayout(segmentLengths: [2], firstPosition: 40)
        #expect(layout.positions == [40, 41])
    }

    @Test(arguments: [
        ([5], [[0, 1, 5]]),
        ([2, 2, 2], [[0, 3, 2]]),
        ([2, 2, 3, 2, 1, 1], [[0, 2, 2], [4, 1, 3], [7, 1, 2], [9, 2, 1]]),
        ([], []),
    ])
    func runsJoinNeighboursOfOneLength(lengths: [Int], expected: [[Int]]) {
        let runs = SequenceLayout(segmentLengths: lengths).runs
        #expect(runs.map { [$0.firstToken, $0.count, $0.length] } == expected)
    }

    @Test func emptySegmentTraps() async {
        await #expect(processExitsWith: .failure) {
            _ = SequenceLayout(segmentLengths: [2, 0])
        }
    }
}

@Suite struct DropoutKeyTests {
    private let reference = DropoutKey(seed: 1, step: 2, microBatch: 3)

    @Test func equalKeyAndPathGiveOneSeed() {
        let again = DropoutKey(seed: 1, step: 2, microBatch: 3)
        #expect(again.seed(for: "a.b") == reference.seed(for: "a.b"))
    }

    @Test(arguments: [
        (DropoutKey(seed: 2, step: 2, microBatch: 3), "a.b"),
        (DropoutKey(seed: 1, step: 3, microBatch: 3), "a.b"),
        (DropoutKey(seed: 1, step: 2, microBatch: 2), "a.b"),
        (DropoutKey(seed: 1, step: 3, microBatch: 2), "a.b"),
        (DropoutKey(seed: 1, step: 2, microBatch: 3), "a.c"),
    ])
    func anythingElseGivesAnother(key: DropoutKey, path: String) {
        #expect(key.seed(for: path) != reference.seed(for: "a.b"))
    }
}

@Suite struct StableHashTests {
    /// Computed by another implementation, in Python.
    @Test func valuesStayWhatTheyAre() {
        #expect(StableHash.of(0, "") == 0x813f_0174_a236_7c13)
        #expect(
            StableHash.of(42, "model.layers.0.self_attn.q_proj", 7, 2) == 0xb0ef_962f_5e1d_a18b)
        #expect(StableHash.of(.max, "é", -1) == 0xbab2_4b9c_99b0_e9bf)
        #expect(StableHash.of(5, [1, 2, 3]) == 0x62f1_cb37_dd1f_8171)
    }

    @Test func orderAndPlaceOfEveryPartMatter() {
        let hashes = [
            StableHash.of(1, "ab"), StableHash.of(1, "ba"), StableHash.of(2, "ab"),
            StableHash.of(1, "ab", 0), StableHash.of(1, "ab", 1, 2), StableHash.of(1, "ab", 2, 1),
            StableHash.of(1, [1, 2]), StableHash.of(1, [2, 1]), StableHash.of(1, [1, 2, 0]),
        ]
        #expect(Set(hashes).count == hashes.count)
    }
}
