import PEFTData
import Testing

@Suite struct BatchScheduleTests {
    /// A dataset whose row i has the given number of tokens, all of value i.
    private func dataset(lengths: [Int]) -> TokenDataset {
        TokenDataset(
            lengths.enumerated().map { row, length in
                TokenSequence(
                    tokens: Array(repeating: Int32(row), count: length),
                    isTarget: Array(repeating: true, count: length), row: row)
            })
    }

    private func schedule(
        _ lengths: [Int], batch: Int = 2, accumulation: Int = 1, shuffle: Bool = false,
        seed: UInt64 = 1, packing: Bool = false, maxLength: Int? = nil
    ) throws -> BatchSchedule {
        try BatchSchedule(
            dataset: dataset(lengths: lengths),
            options: .init(
                perDeviceTrainBatchSize: batch, gradientAccumulationSteps: accumulation,
                shuffle: shuffle, seed: seed, packing: packing, maxLength: maxLength))
    }

    @Test func withoutShuffleStepsTakeTheFilesRowsInOrder() throws {
        let schedule = try schedule(Array(repeating: 3, count: 10), batch: 2, accumulation: 2)
        #expect(schedule.stepsPerEpoch == 3)
        let rows = (0..<4).map { schedule.microBatches(step: $0).map(\.rows) }
        #expect(rows == [[[0, 1], [2, 3]], [[4, 5], [6, 7]], [[8, 9]], [[0, 1], [2, 3]]])
        #expect((0..<4).map(schedule.epoch(ofStep:)) == [0, 0, 0, 1])
    }

    @Test func theLastMicroBatchOfAnEpochMayBeSmaller() throws {
        let schedule = try schedule(Array(repeating: 3, count: 7), batch: 4, accumulation: 1)
        #expect(schedule.stepsPerEpoch == 2)
        #expect(schedule.microBatches(step: 1).map(\.rows) == [[4, 5, 6]])
    }

    @Test func microBatchesHoldTheRowsTokensAsSegments() throws {
        let batch = try schedule([2, 3]).microBatches(step: 0)
        #expect(batch.count == 1)
        #expect(batch[0].tokens == [0, 0, 1, 1, 1])
        #expect(batch[0].segmentLengths == [2, 3])
        #expect(batch[0].targets == [0, -100, 1, 1, -100])
    }

    @Test(arguments: [1, 5, 16, 37], [true, false])
    func everyEpochTakesEachRowOnce(numRows: Int, packing: Bool) throws {
        let lengths = (0..<numRows).map { 1 + $0 * 7 % 13 }
        let schedule = try schedule(
            lengths, batch: 3, accumulation: 2, shuffle: true, packing: packing, maxLength: 13)
        for epoch in 0..<3 {
            let steps = epoch * schedule.stepsPerEpoch..<(epoch + 1) * schedule.stepsPerEpoch
            let batches = steps.flatMap(schedule.microBatches(step:))
            #expect(batches.flatMap(\.rows).sorted() == Array(0..<numRows))
            #expect(batches.allSatisfy { !$0.rows.isEmpty })
        }
    }

    @Test func stepsAreAFunctionOfTheirNumber() throws {
        let lengths = (0..<40).map { 2 + $0 % 5 }
        let schedule = try schedule(lengths, batch: 3, accumulation: 2, shuffle: true, seed: 11)
        let again = try self.schedule(lengths, batch: 3, accumulation: 2, shuffle: true, seed: 11)
        let forward = (0..<20).map(schedule.microBatches(step:))
        let backward = (0..<20).reversed().map(again.microBatches(step:))
        #expect(forward == backward.reversed())
    }

    @Test func epochsAndSeedsDiffer() throws {
        let lengths = Array(repeating: 2, count: 40)
        let schedule = try schedule(lengths, batch: 40, shuffle: true, seed: 1)
        let other = try self.schedule(lengths, batch: 40, shuffle: true, seed: 2)
        let orders = [0, 1, 2].map { schedule.microBatches(step: $0)[0].rows }
        #expect(Set(orders + [other.microBatches(step: 0)[0].rows]).count == 4)
        #expect(orders[0] == seededPermutation(count: 40, seed: 1, epoch: 0))
    }

    @Test(arguments: 0..<10) func packedBinsHoldWholeRowsUpToTheLimit(seed: UInt64) throws {
        var generator = SplitMix64(seed: seed)
        let lengths = (0..<100).map { _ in 2 + generator.next(below: 60) }
        let schedule = try schedule(
            lengths, batch: 2, accumulation: 2, shuffle: true, seed: seed, packing: true,
            maxLength: 64)
        let batches = (0..<schedule.stepsPerEpoch).flatMap(schedule.microBatches(step:))
        #expect(schedule.numElements < 100)
        for batch in batches {
            #expect(batch.tokens.count <= 2 * 64)
            #expect(batch.segmentLengths == batch.rows.map { lengths[$0] })
            #expect(batch.numTargetTokens == batch.tokens.count - batch.rows.count)
        }
    }

    @Test func withoutShufflePackedBinsFollowTheirFirstRow() throws {
        let schedule = try schedule(
            [3, 7, 4, 6, 9], batch: 1, packing: true, maxLength: 10)
        let rows = (0..<schedule.stepsPerEpoch).map { schedule.microBatches(step: $0)[0].rows }
        #expect(rows == [[0, 1], [2, 3], [4]])
    }

    @Test func badOptionsAreRefused() {
        #expect(throws: BatchScheduleError.emptyDataset) { try schedule([]) }
        #expect(
            throws: BatchScheduleError.countBelowOne(
                option: "per_device_train_batch_size", value: 0)
        ) { try schedule([1], batch: 0) }
        #expect(
            throws: BatchScheduleError.countBelowOne(
                option: "gradient_accumulation_steps", value: -1)
        ) { try schedule([1], accumulation: -1) }
        #expect(throws: BatchScheduleError.countBelowOne(option: "max_length", value: 0)) {
            try schedule([1], maxLength: 0)
        }
        #expect(throws: BatchScheduleError.packingWithoutMaxLength) {
            try schedule([1], packing: true)
        }
        #expect(throws: BatchScheduleError.rowTooLong(row: 1, length: 5, maxLength: 4)) {
            try schedule([1, 5], packing: true, maxLength: 4)
        }
    }

    @Test func errorsSayWhatToDo() {
        let texts = [
            BatchScheduleError.emptyDataset, .countBelowOne(option: "max_length", value: 0),
            .packingWithoutMaxLength, .rowTooLong(row: 1, length: 5, maxLength: 4),
        ].map(\.description)
        #expect(
            texts == [
                "the dataset has no rows: nothing to train on",
                "max_length: expected at least 1, found 0",
                "packing needs max_length, the number of tokens that a packed sequence holds; set it",
                "row 1 (counted from 0) has 5 tokens, a packed sequence holds max_length = 4: raise "
                    + "max_length, or encode the rows with a truncation_mode",
            ])
    }

    // MARK: - Several processes

    @Test func theLargestMicroBatchIsThatOfAnyStepAndProcess() throws {
        let lengths = [3, 9, 2, 8, 5, 1, 7, 4]
        let plain = try BatchSchedule(
            dataset: dataset(lengths: lengths),
            options: .init(perDeviceTrainBatchSize: 2, shuffle: false))
        #expect(plain.largestMicroBatch(inSteps: 1).tokens.count == 12)
        #expect(plain.largestMicroBatch(inSteps: 100).tokens.count == 12)
        var options = BatchSchedule.Options(
            perDeviceTrainBatchSize: 2, gradientAccumulationSteps: 2, seed: 3)
        options.numRanks = 2
        let schedule = try BatchSchedule(dataset: dataset(lengths: lengths), options: options)
        let all = (0..<5).flatMap { step in
            (0..<2).flatMap { schedule.share(ofRank: $0, step: step).microBatches }
        }
        #expect(
            schedule.largestMicroBatch(inSteps: 5).tokens.count
                == all.map(\.tokens.count).max())
    }

    private func shares(numRanks: Int, batch: Int, accumulation: Int, step: Int) throws
        -> [BatchSchedule.Share]
    {
        var options = BatchSchedule.Options(
            perDeviceTrainBatchSize: batch, gradientAccumulationSteps: accumulation, shuffle: false)
        options.numRanks = numRanks
        let schedule = try BatchSchedule(
            dataset: dataset(lengths: Array(2...15)), options: options)
        return (0..<numRanks).map { schedule.share(ofRank: $0, step: step) }
    }

    @Test func eachProcessTakesItsContiguousSliceOfAStep() throws {
        let shares = try shares(numRanks: 2, batch: 2, accumulation: 2, step: 0)
        #expect(
            shares.map { $0.microBatches.map(\.rows) }
                == [[[0, 1], [2, 3]], [[4, 5], [6, 7]]])
        #expect(shares.map(\.firstIndex) == [0, 2])
        // Lengths 2 to 9, of which the first token is no target.
        #expect(shares.map(\.numTokens) == [44, 44])
        #expect(shares.map(\.numTargetTokens) == [36, 36])
    }

    /// The second step has the six rows that are left.
    @Test(arguments: [
        (2, 4, 1, [[[8, 9, 10]], [[11, 12, 13]]]),
        (4, 2, 1, [[[8, 9]], [[10, 11]], [[12, 13]], [[]]]),
        (4, 1, 2, [[[8], [9]], [[10], [11]], [[12], [13]], [[], []]]),
    ])
    func allProcessesHaveAsManyMicroBatches(
        numRanks: Int, batch: Int, accumulation: Int, rows: [[[Int]]]
    ) throws {
        let shares = try shares(
            numRanks: numRanks, batch: batch, accumulation: accumulation, step: 1)
        #expect(shares.map { $0.microBatches.map(\.rows) } == rows)
        for share in shares {
            #expect(share.numTargetTokens == (10...15).reduce(0) { $0 + $1 - 1 })
            for batch in share.microBatches where batch.rows.isEmpty {
                #expect(batch == .placeholder)
                #expect(batch.numTargetTokens == 0)
            }
        }
    }
}
