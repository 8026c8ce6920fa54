public import PEFTData
import PEFTLayers
public import PEFTModels
import PEFTSharding
import Torch

/// Scores rows without training on them.
public enum Evaluation {
    /// Bounds the memory of a forward pass of many rows.
    private static let maxTokens = 4096

    /// The loss of every row of a dataset.
    ///
    /// - Parameters:
    ///   - dataset: rows in the order of the file.
    ///   - model: the network, with or without adapter.
    ///   - maxRows: rows of one forward pass.
    /// - Returns: one entry a row, in the order of the file.
    /// - Throws: `TorchError` if memory does not suffice.
    public static func score(
        _ dataset: TokenDataset, with model: any CausalLanguageModel, maxRows: Int
    ) throws -> ScoreReport {
        try score(
            dataset, with: model, maxRows: maxRows, execution: ResidentExecution(),
            ranks: RankGroup())
    }

    /// The loss of every row, with every process scoring its share of the batches.
    ///
    /// - Returns: the same in every process.
    /// - Throws: `TorchError` if memory does not suffice; `CollectiveError` if a process is gone.
    static func score(
        _ dataset: TokenDataset, with model: any CausalLanguageModel, maxRows: Int,
        execution: any BlockExecution, ranks: RankGroup
    ) throws -> ScoreReport {
        let batches = EvaluationBatches(dataset, maxRows: maxRows, maxTokens: maxTokens)
        var values: [Double] = []
        for index in 0..<((batches.count + ranks.size - 1) / ranks.size * ranks.size) {
            // Others score the batches that are not this process's; a placeholder has no row.
            let batch = index < batches.count ? batches[index] : .placeholder
            let numRows = batch.rows.count
            guard index % ranks.size == ranks.rank else {
                values += Array(repeating: 0, count: 2 * numRows)
                continue
            }
            let context = ForwardContext(
                layout: SequenceLayout(segmentLengths: batch.segmentLengths))
            let losses = try withoutGrad { () throws(TorchError) in
                try model.losses(
                    tokens: batch.tokens, targets: batch.targets, context: context,
                    execution: execution)
            }
            values += rows(of: batch, losses: try losses.perTarget.floats()).prefix(numRows)
                .flatMap { [Double($0.numTargetTokens), $0.negativeLogLikelihood] }
        }
        values = try ranks.sum(values, for: "held-out losses")
        return ScoreReport(
            rows: stride(from: 0, to: values.count, by: 2).map {
                ScoreReport.Row(
                    numTargetTokens: Int(values[$0]), negativeLogLikelihood: values[$0 + 1])
            })
    }

    /// Scores held-out rows in a run.
    ///
    /// - Parameters:
    ///   - heldOut: the rows.
    ///   - objective: what the run minimizes.
    ///   - ready: the model.
    ///   - maxRows: rows of one forward pass.
    ///   - step: steps done.
    /// - Returns: the same in every process.
    /// - Throws: `TorchError` if memory does not suffice; `CollectiveError` if a process is gone.
    static func metrics(
        of heldOut: HeldOutRows, _ objective: any Objective, _ ready: ReadyModel, maxRows: Int,
        step: Int
    ) throws -> EvaluationMetrics {
        guard let objective = objective as? PreferenceObjective else {
            let score = try score(
                heldOut.rows, with: ready.adapted.base.model, maxRows: maxRows,
                execution: ready.execution, ranks: ready.ranks)
            return EvaluationMetrics(
                step: step, evalLoss: score.loss, evalPerplexity: score.perplexity,
                evalNumTargetTokens: score.numTargetTokens, name: heldOut.name)
        }
        let (loss, rewards) = try preferences(heldOut.rows, objective, ready, maxRows: maxRows)
        return EvaluationMetrics(
            step: step, evalLoss: loss, evalPerplexity: 0,
            evalNumTargetTokens: heldOut.rows.audit.numTargetTokens, name: heldOut.name,
            rewards: rewards)
    }

    /// The mean loss of preferences, and rewards.
    private static func preferences(
        _ rows: TokenDataset, _ objective: PreferenceObjective, _ ready: ReadyModel, maxRows: Int
    ) throws -> (loss: Double, rewards: RewardMetrics) {
        let ranks = ready.ranks
        let batches = EvaluationBatches(rows, maxRows: maxRows, maxTokens: maxTokens)
        let forward = ForwardPass(
            losses: { batch, usesAdapters throws(TorchError) in
                try ready.adapted.base.model.losses(
                    tokens: batch.tokens, targets: batch.targets,
                    context: ForwardContext(
                        layout: SequenceLayout(segmentLengths: batch.segmentLengths),
                        usesAdapters: usesAdapters),
                    execution: ready.execution)
            }, ranks: ranks)
        var sum = 0.0
        var rewards = RewardSums()
        for first in stride(from: 0, to: batches.count, by: ranks.size) {
            // Every process runs one batch at a time; a placeholder has no row.
            let index = first + ranks.rank
            let batch = index < batches.count ? batches[index] : .placeholder
            let lengths = Array(batch.segmentLengths.prefix(batch.rows.count))
            let share = BatchSchedule.Share(
                microBatches: [batch], firstIndex: 0, numTargetTokens: batch.numTargetTokens,
                numTokens: batch.tokens.count, rowLengths: lengths)
            let value = try withoutGrad { try objective(batch, of: share, forward) }
            let numItems = lengths.count / rows.rowsPerElement
            sum += (value.loss ?? 0) * Double(numItems)
            if let part = value.rewards { rewards += part }
        }
        let totals = try ranks.sum([sum] + rewards.values, for: "held-out preferences")
        let count = rows.sequences.count / rows.rowsPerElement
        return (
            totals[0] / Double(max(1, count)),
            RewardSums(values: Array(totals.dropFirst())).means
        )
    }

    /// Divides the losses of a batch's targets, which are in token order, among its rows.
    private static func rows(of batch: TokenBatch, losses: [Float]) -> [ScoreReport.Row] {
        var rows: [ScoreReport.Row] = []
        var token = 0
        var target = 0
        for length in batch.segmentLengths {
            let count = batch.targets[token..<(token + length)].count {
                $0 != TokenBatch.ignoredTarget
            }
            let nll = losses[target..<(target + count)].reduce(0.0) { $0 + Double($1) }
            rows.append(ScoreReport.Row(numTargetTokens: count, negativeLogLikelihood: nll))
            token += length
            target += count
        }
        return rows
    }
}
