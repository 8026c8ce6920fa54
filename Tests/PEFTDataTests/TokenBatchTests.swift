import PEFTData
import Testing

@Suite struct TokenBatchTests {
    @Test func targetsAreShiftedInsideEachSegment() {
        let batch = TokenBatch([
            TokenSequence(tokens: [1, 2, 3], isTarget: [false, true, true], row: 7),
            TokenSequence(tokens: [4, 5, 6, 7], isTarget: [false, false, false, true], row: 2),
        ])
        #expect(batch.tokens == [1, 2, 3, 4, 5, 6, 7])
        #expect(batch.targets == [2, 3, -100, -100, -100, 7, -100])
        #expect(batch.segmentLengths == [3, 4])
        #expect(batch.rows == [7, 2])
        #expect(batch.numTargetTokens == 3)
    }

    @Test func theFirstTokenIsNeverATarget() {
        let sequence = TokenSequence(tokens: [1, 2], isTarget: [true, true], row: 0)
        #expect(sequence.isTarget == [false, true])
        #expect(sequence.numTargetTokens == 1)
    }

    @Test func aSegmentDoesNotPredictTheNextOne() {
        let single = TokenSequence(tokens: [9], isTarget: [true], row: 0)
        let next = TokenSequence(tokens: [5, 6], isTarget: [true, true], row: 1)
        #expect(TokenBatch([single, next]).targets == [-100, 6, -100])
    }

    @Test func noSequencesMakeAnEmptyBatch() {
        let batch = TokenBatch([])
        #expect(batch.tokens.isEmpty && batch.targets.isEmpty && batch.segmentLengths.isEmpty)
    }

    @Test func lengthsThatDifferTrap() async {
        await #expect(processExitsWith: .failure) {
            _ = TokenSequence(tokens: [1], isTarget: [], row: 0)
        }
    }
}
