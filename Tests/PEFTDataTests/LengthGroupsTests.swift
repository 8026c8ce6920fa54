import Foundation
import PEFTData
import PEFTTokenizers
import Testing

@Suite struct LengthGroupsTests {
    /// transformers' function on orders that are given.
    @Test func ordersAreThoseOfTransformers() throws {
        let cases = try #require(try fixture("length_groups.json").arrayValue)
        #expect(cases.count >= 5)
        for item in cases {
            let order = try #require(item["order"]?.integers)
            let lengths = try #require(item["lengths"]?.integers)
            let batchSize = try #require(item["batch_size"]?.intValue)
            #expect(
                groupedByLength(order, lengths: lengths, batchSize: batchSize)
                    == item["grouped"]?.integers, "\(order.count) by \(batchSize)")
        }
    }

    @Test func aScheduleTakesRowsOfOneLengthTogether() throws {
        let lengths = (0..<64).map { 2 + $0 * 5 % 11 }
        let dataset = TokenDataset(
            lengths.enumerated().map { row, length in
                TokenSequence(
                    tokens: Array(repeating: 1, count: length),
                    isTarget: Array(repeating: true, count: length), row: row)
            })
        var options = BatchSchedule.Options(perDeviceTrainBatchSize: 4, seed: 3)
        func spread(_ options: BatchSchedule.Options) throws -> Int {
            let schedule = try BatchSchedule(dataset: dataset, options: options)
            let batches = (0..<schedule.stepsPerEpoch).flatMap(schedule.microBatches(step:))
            #expect(batches.flatMap(\.rows).sorted() == Array(0..<64))
            return batches.reduce(0) { sum, batch in
                sum + (batch.segmentLengths.max() ?? 0) - (batch.segmentLengths.min() ?? 0)
            }
        }
        let random = try spread(options)
        options.groupsByLength = true
        #expect(try spread(options) * 2 < random)
        // The longest row comes in the first step.
        let schedule = try BatchSchedule(dataset: dataset, options: options)
        #expect(schedule.microBatches(step: 0)[0].segmentLengths.first == 12)
        // The same rows make the same steps for any number of processes.
        options.perDeviceTrainBatchSize = 2
        options.numRanks = 2
        let divided = try BatchSchedule(dataset: dataset, options: options)
        for step in 0..<schedule.stepsPerEpoch {
            let rows = (0..<2).flatMap { divided.share(ofRank: $0, step: step).microBatches }
            #expect(rows.flatMap(\.rows) == schedule.microBatches(step: step).flatMap(\.rows))
        }
    }
}
