import PEFTData
import Testing

@Suite struct EvaluationBatchesTests {
    private func dataset(_ lengths: [Int]) -> TokenDataset {
        TokenDataset(
            lengths.enumerated().map { row, length in
                TokenSequence(
                    tokens: Array(repeating: 1, count: length),
                    isTarget: Array(repeating: true, count: length), row: row)
            })
    }

    @Test func batchesFollowTheFileUpToTheRowLimit() {
        let batches = EvaluationBatches(dataset([2, 2, 2, 2, 2]), maxRows: 2)
        #expect(batches.map(\.rows) == [[0, 1], [2, 3], [4]])
    }

    @Test func batchesStayWithinTheTokenBudget() {
        let batches = EvaluationBatches(dataset([3, 4, 20, 2, 8, 1]), maxRows: 8, maxTokens: 10)
        #expect(batches.map(\.rows) == [[0, 1], [2], [3, 4], [5]])
    }

    @Test func noRowsMakeNoBatches() {
        #expect(EvaluationBatches(dataset([]), maxRows: 8).isEmpty)
    }
}
