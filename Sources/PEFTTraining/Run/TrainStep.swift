public import PEFTData
import PEFTLayers
import PEFTModels
import Torch

/// One optimizer step: forward and backward over its micro-batches, clipping, update.
///
/// `loss = sum of all token losses of the step / number of its target tokens`; each micro-batch's sum is
/// differentiated with that one divisor, so accumulation changes nothing but memory.
public struct TrainStep {
    /// What a step did.
    public struct Result: Sendable, Equatable {
        /// The mean loss of the step's target tokens, before the update.
        public let loss: Double
        /// The norm of all gradients, before clipping.
        public let gradNorm: Double
        /// The learning rate of the update.
        public let learningRate: Double
        /// Target tokens of the step.
        public let numTargetTokens: Int
        /// All tokens of the step.
        public let numTokens: Int
    }

    /// The checked model.
    let ready: ReadyModel
    /// Updates its trainable tensors.
    let optimizer: AdamW
    /// Gives the learning rate.
    let schedule: LearningRateSchedule
    /// The largest gradient norm that stays; 0 for no clipping.
    let maxGradNorm: Double
    /// Seeds dropout.
    let seed: UInt64

    /// Makes the step of a run; the optimizer's state decides what comes next.
    ///
    /// - Throws: ``Diagnosis`` of ``DiagnosisCode/optimizerHoldsOthers`` unless the optimizer was made from this very model.
    public init(
        _ ready: ReadyModel, optimizer: AdamW, schedule: LearningRateSchedule, maxGradNorm: Double,
        seed: UInt64
    ) throws(Diagnosis) {
        try optimizer.requireHolds(exactly: ready.trainableParameters)
        self.ready = ready
        self.optimizer = optimizer
        self.schedule = schedule
        self.maxGradNorm = maxGradNorm
        self.seed = seed
    }

    /// Trains on the micro-batches of a step.
    ///
    /// - Parameters:
    ///   - step: updates done before, which names the step's dropout.
    ///   - microBatches: at least one target among them.
    /// - Returns: loss, norm and counts.
    /// - Throws: ``TrainingError/lossNotFinite(step:loss:rows:)`` or
    ///   ``TrainingError/gradientNotFinite(step:norm:rows:)`` before anything is updated; `TorchError`.
    public func callAsFunction(
        step: Int, microBatches: [TokenBatch]
    ) throws -> Result {
        let numTargetTokens = microBatches.reduce(0) { $0 + $1.numTargetTokens }
        let share = try Tensor.full([], 1 / Double(max(1, numTargetTokens)))
        var lossSum = 0.0
        for (index, batch) in microBatches.enumerated() {
            let context = ForwardContext(
                layout: SequenceLayout(segmentLengths: batch.segmentLengths),
                dropout: DropoutKey(seed: seed, step: step, microBatch: index))
            let losses = try ready.adapted.base.model.losses(
                tokens: batch.tokens, targets: batch.targets, context: context,
                execution: ready.execution)
            try losses.sum.backward(gradient: share)
            let sum = try losses.sum.detach().item()
            guard sum.isFinite else {
                try optimizer.clearGradients()
                throw TrainingError.lossNotFinite(step: step + 1, loss: sum, rows: batch.rows)
            }
            lossSum += sum
        }
        let norm = try GradientClipping.clip(ready.trainableParameters, maxNorm: maxGradNorm)
        guard norm.isFinite else {
            try optimizer.clearGradients()
            throw TrainingError.gradientNotFinite(
                step: step + 1, norm: norm, rows: microBatches.flatMap(\.rows))
        }
        let learningRate = schedule.learningRate(updatesDone: step)
        try optimizer.update(learningRate: learningRate)
        try optimizer.clearGradients()
        return Result(
            loss: lossSum / Double(max(1, numTargetTokens)), gradNorm: norm,
            learningRate: learningRate, numTargetTokens: numTargetTokens,
            numTokens: microBatches.reduce(0) { $0 + $1.tokens.count })
    }
}
