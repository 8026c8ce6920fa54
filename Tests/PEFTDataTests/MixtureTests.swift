import Foundation
import PEFTData
import TestSupport
import Testing

/// Several datasets as one: drawn by weight, or one after the other.
@Suite struct MixtureTests {
    /// Rows of which each says in its first token which dataset it is of.
    private func dataset(_ mark: Int32, count: Int) -> TokenDataset {
        TokenDataset(
            (0..<count).map { row in
                TokenSequence(
                    tokens: [mark, Int32(row), 1], isTarget: [false, true, true], row: row)
            })
    }

    private func schedule(
        _ counts: [Int], weights: [Double]?, batch: Int = 1, shuffle: Bool = true, seed: UInt64 = 7,
        packing: Bool = false
    ) throws -> BatchSchedule {
        let parts = counts.enumerated().map { dataset(Int32($0.offset), count: $0.element) }
        return try BatchSchedule(
            dataset: .joined(parts, weights: weights),
            options: .init(
                perDeviceTrainBatchSize: batch, shuffle: shuffle, seed: seed, packing: packing,
                maxLength: packing ? 6 : nil))
    }

    /// What each step of some epochs takes: dataset and row.
    private func draws(_ schedule: BatchSchedule, epochs: Range<Int>) -> [[Int32]] {
        let steps =
            epochs.lowerBound * schedule.stepsPerEpoch..<epochs.upperBound * schedule.stepsPerEpoch
        return steps.flatMap { step in
            schedule.microBatches(step: step).flatMap { batch in
                stride(from: 0, to: batch.tokens.count, by: 3).map {
                    Array(batch.tokens[$0..<$0 + 2])
                }
            }
        }
    }

    @Test func sharesAreTheWeights() throws {
        let schedule = try schedule([1000, 1000, 1000], weights: [7, 2, 1], batch: 10)
        let marks = draws(schedule, epochs: 0..<1).map { $0[0] }
        #expect(marks.count == 3000)
        for (mark, share) in [0.7, 0.2, 0.1].enumerated() {
            let found = Double(marks.count { $0 == mark }) / 3000
            // Three standard deviations of a binomial share.
            let bound = 3 * (share * (1 - share) / 3000).squareRoot()
            #expect(abs(found - share) < bound, "\(mark): \(found)")
        }
    }

    /// A small dataset comes again and again, each time in another order, and each of its rows as often as the others.
    @Test func aSmallDatasetBeginsAgain() throws {
        let schedule = try schedule([5, 95], weights: [1, 1])
        let rows = draws(schedule, epochs: 0..<1).filter { $0[0] == 0 }.map { $0[1] }
        #expect(rows.count > 30)
        let passes = stride(from: 0, to: rows.count - 4, by: 5).map { Array(rows[$0..<$0 + 5]) }
        #expect(passes.allSatisfy { $0.sorted() == [0, 1, 2, 3, 4] })
        #expect(Set(passes).count > 1)
    }

    @Test func drawsDependOnSeedAndEpochAlone() throws {
        let first = try schedule([20, 30], weights: [0.3, 0.7])
        let again = try schedule([20, 30], weights: [0.3, 0.7])
        #expect(draws(first, epochs: 1..<3) == draws(again, epochs: 1..<3))
        // From any step on, as a resumed run needs it.
        #expect(first.microBatches(step: 77) == again.microBatches(step: 77))
        let other = try schedule([20, 30], weights: [0.3, 0.7], seed: 8)
        #expect(draws(first, epochs: 0..<1) != draws(other, epochs: 0..<1))
        #expect(draws(first, epochs: 0..<1) != draws(first, epochs: 1..<2))
    }

    @Test func withoutWeightsEveryRowComesOnce() throws {
        let schedule = try schedule([3, 4], weights: nil)
        let rows = Set(draws(schedule, epochs: 0..<1))
        #expect(rows.count == 7)
        #expect(rows == Set((0..<3).map { [0, Int32($0)] } + (0..<4).map { [1, Int32($0)] }))
    }

    @Test func withoutShuffleADatasetsRowsAreInOrder() throws {
        let schedule = try schedule([40, 40], weights: [1, 3], shuffle: false)
        let rows = draws(schedule, epochs: 0..<1).filter { $0[0] == 1 }.map { Int($0[1]) }
        #expect(rows.count > 40)
        #expect(rows == rows.indices.map { $0 % 40 })
    }

    /// Bins hold rows of one dataset, so that weights mean what they say.
    @Test func packsAreOfOneDataset() throws {
        let schedule = try schedule([10, 10], weights: [1, 1], packing: true)
        #expect(schedule.numElements == 10)
        for step in 0..<10 {
            let batch = schedule.microBatches(step: step)[0]
            #expect(batch.segmentLengths == [3, 3])
            #expect(batch.tokens[0] == batch.tokens[3])
        }
    }

    @Test func countsAreThoseOfAll() {
        let joined = TokenDataset.joined(
            [dataset(0, count: 3), dataset(1, count: 2)], weights: nil)
        #expect(joined.audit.numRows == 5)
        #expect(joined.audit.numTokens == 15)
        #expect(joined.audit.numTargetTokens == 10)
        #expect(joined.sequences.map(\.row) == [0, 1, 2, 3, 4])
        #expect(joined.sequences.map { $0.tokens[0] } == [0, 0, 0, 1, 1])
    }
}
