public import PEFTData
public import PEFTLayers
package import PEFTSharding
public import Torch

/// What a training step minimizes: the mean over its items of a loss that depends on the log probabilities of targets.
///
/// A step calls it for each micro-batch; there is no other trainer for another objective.
public protocol Objective {
    /// By what the sum over all micro-batches of all processes is divided.
    ///
    /// - Parameter share: this process's share of the step.
    /// - Returns: above 0.
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
public struct ForwardPass {
    /// Runs a batch, with the adapter or without.
    public let losses: (_ batch: TokenBatch, _ usesAdapters: Bool) throws(TorchError) -> TokenLosses
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
public struct ObjectiveValue {
    /// What backward begins at.
    public let output: Tensor
    /// The gradient of the loss with respect to it, before division; nil for one.
    public let gradient: Tensor?
    /// The loss, if it is not the output.
    public let loss: Double?
    /// What the model prefers, summed over the micro-batch.
    package let rewards: RewardSums?

    /// Takes a loss that autograd can follow, or what has the loss's gradient computed beside it.
    ///
    /// - Parameters:
    ///   - output: the loss, or what it was computed from.
    ///   - gradient: of the loss with respect to `output`, in its shape; nil if that is the loss.
    ///   - loss: its value; nil if that is `output`.
    public init(output: Tensor, gradient: Tensor? = nil, loss: Double? = nil) {
        self.init(output: output, gradient: gradient, loss: loss, rewards: nil)
    }

    package init(output: Tensor, gradient: Tensor?, loss: Double?, rewards: RewardSums?) {
        self.output = output
        self.gradient = gradient
        self.loss = loss
        self.rewards = rewards
    }
}

/// The loss of supervised fine-tuning: the cross entropy of every target.
public struct NextTokenLoss: Objective {
    /// Makes the loss.
    public init() {}

    /// The step's target tokens.
    public func divisor(of share: BatchSchedule.Share) -> Double {
        Double(max(1, share.numTargetTokens))
    }

    /// The sum of the losses of a micro-batch's targets.
    public func callAsFunction(
        _ batch: TokenBatch, of share: BatchSchedule.Share, _ forward: ForwardPass
    ) throws -> ObjectiveValue {
        let losses = try forward.losses(batch, true)
        return ObjectiveValue(output: losses.sum)
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
