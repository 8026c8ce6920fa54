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
        /// The norm of each trainable tensor's gradient, before clipping, in the ready model's order.
        public let gradNorms: [Float]
        /// The factor of the loss's gradient, which the norms do not have; nil without loss scaling.
        public let lossScale: Double?
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
    /// Keeps gradients in the range of the compute dtype, where that is needed.
    let scaler: LossScaler?

    /// Makes the step of a run; the optimizer's state decides what comes next.
    ///
    /// - Throws: ``Diagnosis`` of ``DiagnosisCode/optimizerHoldsOthers`` unless the optimizer was made from this very model, or of
    ///   a dtype that does not train so: see ``PrecisionRules``.
    public init(
        _ ready: ReadyModel, optimizer: AdamW, schedule: LearningRateSchedule, maxGradNorm: Double,
        seed: UInt64, lossScaling: LossScaling = .none
    ) throws(Diagnosis) {
        try PrecisionRules.validate(ready.adapted.base.options.precision(lossScaling))
        try optimizer.requireHolds(exactly: ready.trainableParameters)
        self.ready = ready
        self.optimizer = optimizer
        self.schedule = schedule
        self.maxGradNorm = maxGradNorm
        self.seed = seed
        scaler = LossScaler(lossScaling)
    }

    /// Trains on the micro-batches of a step.
    ///
    /// - Parameters:
    ///   - step: updates done before, which names the step's dropout.
    ///   - microBatches: at least one target among them.
    /// - Returns: loss, norm and counts.
    /// - Throws: ``Diagnosis`` with ``DiagnosisCode/lossNotFinite`` or ``DiagnosisCode/gradientNotFinite`` before anything is
    ///   updated; ``LossScaleOverflow`` if a smaller loss scale is to be tried; `TorchError`.
    public func callAsFunction(
        step: Int, microBatches: [TokenBatch]
    ) throws -> Result {
        let numTargetTokens = microBatches.reduce(0) { $0 + $1.numTargetTokens }
        let scale = scaler?.scale
        let share = try Tensor.full([], (scale ?? 1) / Double(max(1, numTargetTokens)))
        var lossSum = 0.0
        let failure = NonFiniteStep(
            step: step, microBatches: microBatches, parameters: ready.trainableParameters,
            share: share, lossScale: scale
        ) { batch, index throws(TorchError) in
            try losses(of: batch, step: step, index: index)
        }
        for (index, batch) in microBatches.enumerated() {
            let losses = try losses(of: batch, step: step, index: index)
            try losses.sum.backward(gradient: share)
            let sum = try losses.sum.detach().item()
            guard sum.isFinite else {
                try optimizer.clearGradients()
                throw try failure.diagnosis(loss: sum, microBatch: index)
            }
            lossSum += sum
        }
        try scaler?.unscale(ready.trainableParameters)
        let norm = try GradientClipping.clip(ready.trainableParameters, maxNorm: maxGradNorm)
        guard norm.total.isFinite else {
            try optimizer.clearGradients()
            if let overflow = overflow(step: step) { throw overflow }
            let found = try failure.diagnosis(
                norm: norm.total, each: norm.each)
            try optimizer.clearGradients()
            throw found
        }
        let learningRate = schedule.learningRate(updatesDone: step)
        try optimizer.update(learningRate: learningRate)
        scaler?.update(hasOverflowed: false)
        try optimizer.clearGradients()
        return Result(
            loss: lossSum / Double(max(1, numTargetTokens)), gradNorm: norm.total,
            gradNorms: norm.each, lossScale: scale, learningRate: learningRate,
            numTargetTokens: numTargetTokens,
            numTokens: microBatches.reduce(0) { $0 + $1.tokens.count })
    }

    /// Lowers a dynamic loss scale; nil if there is none, or none that is left to try.
    private func overflow(step: Int) -> LossScaleOverflow? {
        guard let scaler, scaler.isDynamic else { return nil }
        let scale = scaler.scale
        scaler.update(hasOverflowed: true)
        guard !scaler.isExhausted else { return nil }
        return LossScaleOverflow(step: step + 1, scale: scale, nextScale: scaler.scale)
    }

    private func losses(
        of batch: TokenBatch, step: Int, index: Int
    ) throws(TorchError) -> TokenLosses {
        let context = ForwardContext(
            layout: SequenceLayout(segmentLengths: batch.segmentLengths),
            dropout: DropoutKey(seed: seed, step: step, microBatch: index))
        return try ready.adapted.base.model.losses(
            tokens: batch.tokens, targets: batch.targets, context: context,
            execution: ready.execution)
    }
}
