internal import Foundation
public import PEFTData
public import PEFTLayers
public import PEFTModels
public import Torch

/// The loss of rows that are not trained on.
public struct Evaluation: Sendable, Equatable {
    /// The loss of one row.
    public struct Row: Codable, Sendable, Equatable {
        /// Targets of the row.
        public let numTargetTokens: Int
        /// The sum of `-log p(target)` over the row's targets.
        public let nll: Double

        private enum CodingKeys: String, CodingKey {
            case numTargetTokens = "num_target_tokens"
            case nll
        }
    }

    /// Every row, in the order of the file.
    public let rows: [Row]

    /// Targets of all rows.
    public var numTargetTokens: Int { rows.reduce(0) { $0 + $1.numTargetTokens } }
    /// The mean of `-log p(target)` over all targets; zero without targets.
    public var loss: Double {
        rows.reduce(0) { $0 + $1.nll } / Double(max(1, numTargetTokens))
    }
    /// `exp(loss)`.
    public var perplexity: Double { exp(loss) }

    /// Scores a dataset without recording anything.
    ///
    /// - Parameters:
    ///   - model: the network, with or without adapter.
    ///   - dataset: rows in the order of the file.
    ///   - maxRows: rows of one forward pass.
    /// - Throws: `TorchError` if memory does not suffice.
    public init(
        of model: any CausalLanguageModel, on dataset: TokenDataset, maxRows: Int
    ) throws(TorchError) {
        let execution = ResidentExecution()
        var rows: [Row] = []
        for batch in EvaluationBatches(dataset, maxRows: maxRows, maxTokens: Self.maxTokens) {
            let context = ForwardContext(
                layout: SequenceLayout(segmentLengths: batch.segmentLengths))
            let losses = try withoutGrad { () throws(TorchError) in
                try model.losses(
                    tokens: batch.tokens, targets: batch.targets, context: context,
                    execution: execution)
            }
            rows += Self.rows(of: batch, losses: try losses.perTarget.floats())
        }
        self.rows = rows
    }

    /// Bounds the memory of a forward pass of many rows.
    private static let maxTokens = 4096

    /// Divides the losses of a batch's targets, which are in token order, among its rows.
    private static func rows(of batch: TokenBatch, losses: [Float]) -> [Row] {
        var rows: [Row] = []
        var token = 0
        var target = 0
        for length in batch.segmentLengths {
            let count = batch.targets[token..<(token + length)].count {
                $0 != TokenBatch.ignoredTarget
            }
            let nll = losses[target..<(target + count)].reduce(0.0) { $0 + Double($1) }
            rows.append(Row(numTargetTokens: count, nll: nll))
            token += length
            target += count
        }
        return rows
    }
}
