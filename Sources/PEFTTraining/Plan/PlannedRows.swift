import PEFTData

/// The rows of a run, as far as they are known when it is planned.
enum PlannedRows {
    /// The training rows and the held-out ones.
    case known(TokenDataset, heldOut: [TokenDataset])
    /// Nothing but the configuration: every row is as long as it may be, and every token a target.
    case unknown

    /// Steps that are looked through for the largest micro-batch.
    private static let maxSteps = 20_000

    /// The micro-batch with the most tokens that any process gets, and the largest batch of an evaluation, if there is one.
    ///
    /// - Throws: `BatchScheduleError` if the rows do not make batches.
    func largest(
        _ config: FineTuneConfig, numRanks: Int
    ) throws(BatchScheduleError) -> (training: TokenBatch, evaluation: TokenBatch?) {
        switch self {
        case .known(let rows, let heldOut):
            let batches = try BatchSchedule(
                dataset: rows, options: config.batches(numRanks: numRanks))
            let steps = config.totalSteps(stepsPerEpoch: batches.stepsPerEpoch)
            return (
                batches.largestMicroBatch(inSteps: min(steps, Self.maxSteps)),
                heldOut.flatMap {
                    EvaluationBatches($0, maxRows: config.perDeviceEvalBatchSize)
                }.max { $0.tokens.count < $1.tokens.count }
            )
        case .unknown:
            let row = TokenSequence(
                tokens: Array(repeating: 0, count: config.maxLength),
                isTarget: Array(repeating: true, count: config.maxLength), row: 0)
            func batch(_ numRows: Int) -> TokenBatch {
                TokenBatch(Array(repeating: row, count: numRows))
            }
            return (
                batch(config.perDeviceTrainBatchSize),
                !config.evaluates ? nil : batch(config.perDeviceEvalBatchSize)
            )
        }
    }

    /// The same rows, cut to a length.
    func cut(to maxLength: Int) -> PlannedRows {
        guard case .known(let rows, let heldOut) = self else { return self }
        return .known(rows.cut(to: maxLength), heldOut: heldOut.map { $0.cut(to: maxLength) })
    }
}
