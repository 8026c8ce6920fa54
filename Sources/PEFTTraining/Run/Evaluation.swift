public import PEFTData
import PEFTLayers
public import PEFTModels
public import Torch

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
    ) throws(TorchError) -> ScoreReport {
        let execution = ResidentExecution()
        var rows: [ScoreReport.Row] = []
        for batch in EvaluationBatches(dataset, maxRows: maxRows, maxTokens: maxTokens) {
            let context = ForwardContext(
                layout: SequenceLayout(segmentLengths: batch.segmentLengths))
            let losses = try withoutGrad { () throws(TorchError) in
                try model.losses(
                    tokens: batch.tokens, targets: batch.targets, context: context,
                    execution: execution)
            }
            rows += self.rows(of: batch, losses: try losses.perTarget.floats())
        }
        return ScoreReport(rows: rows)
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
