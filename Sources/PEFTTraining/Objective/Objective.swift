package import PEFTData
package import PEFTLayers
package import PEFTSharding
package import Torch

/// What a training step minimizes: the mean over its items of a loss that depends on the log probabilities of targets.
///
/// A step calls it for each micro-batch; there is no other trainer for another objective.
package protocol Objective {
    /// By what the sum over all micro-batches of all processes is divided.
    ///
    /// - Parameter share: this process's share of the step.
    func divisor(of share: BatchSchedule.Share) -> Double

    /// Runs forward on a micro-batch.
    ///
    /// - Parameters:
    ///   - batch: the micro-batch, perhaps a placeholder without rows.
    ///   - share: the share of the step that it belongs to.
    ///   - forward: runs the model.
    /// - Returns: what is to be differentiated.
    /// - Throws: `TorchError`; `CollectiveError` if another process is gone.
    func callAsFunction(
        _ batch: TokenBatch, of share: BatchSchedule.Share, _ forward: ForwardPass
    ) throws -> ObjectiveValue
}

/// Runs the model of a step.
package struct ForwardPass {
    /// Runs a batch, with the adapter or without.
    package let losses:
        (_ batch: TokenBatch, _ usesAdapters: Bool) throws(TorchError) -> TokenLosses
    /// The processes, which all make the same calls.
    package let ranks: RankGroup

    /// Takes what runs the model.
    package init(
        losses:
            @escaping (_ batch: TokenBatch, _ usesAdapters: Bool) throws(TorchError) ->
            TokenLosses, ranks: RankGroup
    ) {
        self.losses = losses
        self.ranks = ranks
    }
}

/// The loss of a micro-batch, before it is divided.
package struct ObjectiveValue {
    /// What backward begins at.
    package let output: Tensor
    /// The gradient of the loss with respect to it, before division; nil for one.
    package let gradient: Tensor?
    /// The loss, if it is not the output.
    package let loss: Double?
    /// What the model prefers, summed over the micro-batch.
    package let rewards: RewardSums?
}

/// The loss of supervised fine-tuning: the cross entropy of every target.
struct NextTokenLoss: Objective {
    /// The step's target tokens.
    func divisor(of share: BatchSchedule.Share) -> Double {
        Double(max(1, share.numTargetTokens))
    }

    func callAsFunction(
        _ batch: TokenBatch, of share: BatchSchedule.Share, _ forward: ForwardPass
    ) throws -> ObjectiveValue {
        let losses = try forward.losses(batch, true)
        return ObjectiveValue(output: losses.sum, gradient: nil, loss: nil, rewards: nil)
    }
}

/// Sums of what an adapter has come to prefer over its base.
package struct RewardSums: Equatable {
    /// Rewards of good completions.
    var chosen = 0.0
    /// Rewards of bad completions.
    var rejected = 0.0
    /// Pairs in which the good completion has the greater reward.
    var numRight = 0.0
    /// Good completions.
    var numChosen = 0.0
    /// Bad completions.
    var numRejected = 0.0
    /// Pairs.
    var numPairs = 0.0

    /// The sums as a list, for a collective.
    var values: [Double] { [chosen, rejected, numRight, numChosen, numRejected, numPairs] }

    init() {}

    /// The sums of a list.
    init(values: [Double]) {
        (chosen, rejected, numRight) = (values[0], values[1], values[2])
        (numChosen, numRejected, numPairs) = (values[3], values[4], values[5])
    }

    static func += (sum: inout RewardSums, other: RewardSums) {
        sum = RewardSums(values: zip(sum.values, other.values).map(+))
    }

    /// The means, for reports.
    package var means: RewardMetrics {
        RewardMetrics(
            chosen: numChosen > 0 ? chosen / numChosen : nil,
            rejected: numRejected > 0 ? rejected / numRejected : nil,
            accuracy: numPairs > 0 ? numRight / numPairs : nil)
    }
}
