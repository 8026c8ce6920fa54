import Foundation

/// The losses of preference training as functions of log probabilities, with their gradients.
///
/// With x the log probability of a completion under the model less that under the reference, c and r those of the chosen and the
/// rejected completion, n their tokens and b = `beta`:
///
/// - sigmoid: `-log sigmoid(b (c - r))`; hinge: `max(0, 1 - b (c - r))`; ipo: `(c / n_c - r / n_r - 1 / (2 b))^2`
/// - orpo, of mean log probabilities p and q without reference: `-b log sigmoid(log p's odds - log q's odds)`,
///   `log odds of p = p - log(1 - e^p)`; beside it stands the cross entropy of the chosen row
/// - kto, of one completion and the divergence k of the model from the reference: `w (1 - sigmoid(b (x - k)))` if it is good,
///   `w (1 - sigmoid(b (k - x)))` if it is bad
///
/// - Source: Rafailov et al. 2023, "DPO", equation 7; Azar et al. 2023, "IPO", equation 17; Hong et al. 2024, "ORPO", equation 7;
///   Ethayarajh et al. 2024, "KTO", equation 7; trl 1.16 `trainer/dpo_trainer.py`, `trainer/kto_trainer.py`,
///   `experimental/orpo/orpo_trainer.py`.
package struct PreferenceLoss: Sendable, Hashable {
    /// Which one.
    package var kind: LossType
    /// How far the model may go from the reference: less is farther.
    package var beta = 0.1
    /// The weight of good completions in KTO.
    package var desirableWeight = 1.0
    /// The weight of bad completions in KTO.
    package var undesirableWeight = 1.0

    /// Makes a loss with TRL's defaults.
    package init(_ kind: LossType) { self.kind = kind }

    /// A completion's log probability, summed over its tokens.
    package struct Score: Sendable, Hashable {
        /// Under the model.
        package var policy: Double
        /// Under the reference; 0 where there is none.
        package var reference: Double
        /// Tokens, at least 1.
        package var numTokens: Int

        /// Takes the numbers.
        package init(policy: Double, reference: Double = 0, numTokens: Int) {
            (self.policy, self.reference, self.numTokens) = (policy, reference, numTokens)
        }

        var ratio: Double { policy - reference }
        var mean: Double { policy / Double(numTokens) }
    }

    /// The loss of a pair.
    ///
    /// - Returns: the loss, and its derivatives by the two policies' log probabilities.
    package func pair(
        chosen: Score, rejected: Score
    ) -> (loss: Double, byChosen: Double, byRejected: Double) {
        let difference = beta * (chosen.ratio - rejected.ratio)
        switch kind {
        case .sigmoid:
            let slope = -beta * Self.sigmoid(-difference)
            return (Self.softplus(-difference), slope, -slope)
        case .hinge:
            let slope = difference < 1 ? -beta : 0
            return (max(0, 1 - difference), slope, -slope)
        case .ipo:
            let (numChosen, numRejected) = (Double(chosen.numTokens), Double(rejected.numTokens))
            let error =
                chosen.ratio / numChosen - rejected.ratio / numRejected - 1 / (2 * beta)
            return (error * error, 2 * error / numChosen, -2 * error / numRejected)
        case .orpo:
            let logOdds = Self.logOdds(chosen.mean) - Self.logOdds(rejected.mean)
            let slope = -beta * Self.sigmoid(-logOdds)
            return (
                beta * Self.softplus(-logOdds),
                slope / (-expm1(chosen.mean) * Double(chosen.numTokens)),
                -slope / (-expm1(rejected.mean) * Double(rejected.numTokens))
            )
        case .nll, .kto:
            preconditionFailure("\(kind.rawValue) is no loss of pairs")
        }
    }

    /// The loss of one completion in KTO.
    ///
    /// - Parameters:
    ///   - score: of the completion.
    ///   - isDesirable: whether it is good.
    ///   - divergence: of the model from the reference, at least 0.
    /// - Returns: the loss, and its derivative by the policy's log probability.
    package func single(
        _ score: Score, isDesirable: Bool, divergence: Double
    ) -> (loss: Double, slope: Double) {
        precondition(kind == .kto, "\(kind.rawValue) is no loss of single completions")
        let sign = isDesirable ? 1.0 : -1.0
        let weight = isDesirable ? desirableWeight : undesirableWeight
        let value = Self.sigmoid(beta * sign * (score.ratio - divergence))
        return (weight * (1 - value), -weight * beta * sign * value * (1 - value))
    }

    /// What is reported as the reward of a completion.
    package func reward(of score: Score) -> Double {
        beta * (kind == .orpo ? score.mean : score.ratio)
    }

    private static func sigmoid(_ value: Double) -> Double { 1 / (1 + exp(-value)) }

    /// `log(1 + e^x)`, which is `-log sigmoid(-x)`.
    private static func softplus(_ value: Double) -> Double {
        max(0, value) + log1p(exp(-value.magnitude))
    }

    /// `p - log(1 - e^p)` of a log probability below 0.
    private static func logOdds(_ value: Double) -> Double {
        value - (value < -M_LN2 ? log1p(-exp(value)) : log(-expm1(value)))
    }
}
