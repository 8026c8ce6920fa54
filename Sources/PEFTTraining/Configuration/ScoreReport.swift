import Foundation
public import PEFTTokenizers

/// How well a model predicts the targets of a file of rows.
public struct ScoreReport: Equatable, Sendable {
    /// The score of one row.
    public struct Row: Equatable, Sendable {
        /// Tokens whose loss counts.
        public var numTargetTokens: Int
        /// The sum of their losses: the row's negative log likelihood, in nats.
        public var negativeLogLikelihood: Double

        /// Makes a row's score.
        public init(numTargetTokens: Int, negativeLogLikelihood: Double) {
            self.numTargetTokens = numTargetTokens
            self.negativeLogLikelihood = negativeLogLikelihood
        }
    }

    /// The rows, in file order.
    public var rows: [Row]

    /// Makes a report of its rows.
    public init(rows: [Row]) {
        self.rows = rows
    }

    /// The target tokens of all rows.
    public var numTargetTokens: Int { rows.reduce(0) { $0 + $1.numTargetTokens } }

    /// The mean loss of all target tokens, in nats; NaN when there are none.
    public var loss: Double {
        rows.reduce(0) { $0 + $1.negativeLogLikelihood } / Double(numTargetTokens)
    }

    /// `exp(loss)`.
    public var perplexity: Double { exp(loss) }

    /// The report as `peft score --json` writes it.
    public var json: JSONObject {
        let rows = rows.map { row in
            JSONValue.object([
                "num_target_tokens": .int(row.numTargetTokens),
                "nll": .double(row.negativeLogLikelihood),
            ])
        }
        return [
            "loss": .double(loss), "perplexity": .double(perplexity),
            "num_target_tokens": .int(numTargetTokens), "rows": .array(rows),
        ]
    }
}
