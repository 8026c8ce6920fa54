public import PEFTData
public import PEFTLayers
import PEFTModels
import PEFTSharding
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
        /// What the model prefers; nil unless it learns preferences.
        public let rewards: RewardMetrics?
    }

    /// The checked model.
    let ready: ReadyModel
    /// Updates its trainable tensors.
    let optimizer: Optimizer
    /// Gives the learning rate.
    let schedule: LearningRateSchedule
    /// The largest gradient norm that stays; 0 for no clipping.
    let maxGradNorm: Double
    /// Seeds dropout.
    let seed: UInt64
    /// Keeps gradients in the range of the compute dtype, where that is needed.
    let scaler: LossScaler?
    /// Whether gradients are summed over the processes after each micro-batch.
    let reducesEachMicroBatch: Bool
    /// What a pass does besides.
    let regularization: Regularization
    /// What is minimized.
    let objective: any Objective
    /// Whether common beginnings of rows are computed once.
    let sharesPrefixes: Bool

    /// Makes the step of a run; the optimizer's state decides what comes next.
    ///
    /// - Throws: ``Diagnosis`` of ``DiagnosisCode/optimizerHoldsOthers`` unless the optimizer was made from this very model, or of
    ///   a dtype that does not train so: see ``PrecisionRules``.
    public init(
        _ ready: ReadyModel, optimizer: Optimizer, schedule: LearningRateSchedule,
        maxGradNorm: Double, seed: UInt64, lossScaling: LossScaling = .none,
        reducesEachMicroBatch: Bool = false, regularization: Regularization = Regularization(),
        objective: any Objective = NextTokenLoss(), sharesPrefixes: Bool = false
    ) throws(Diagnosis) {
        try PrecisionRules.validate(ready.adapted.base.options.precision(lossScaling))
        try optimizer.requireHolds(exactly: ready.trainableParameters)
        self.ready = ready
        self.optimizer = optimizer
        self.schedule = schedule
        self.maxGradNorm = maxGradNorm
        self.seed = seed
        scaler = LossScaler(lossScaling)
        self.reducesEachMicroBatch = reducesEachMicroBatch
        self.regularization = regularization
        self.objective = objective
        self.sharesPrefixes = sharesPrefixes
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
        try self(
            step: step,
            share: BatchSchedule.Share(
                microBatches: microBatches, firstIndex: 0,
                numTargetTokens: microBatches.reduce(0) { $0 + $1.numTargetTokens },
                numTokens: microBatches.reduce(0) { $0 + $1.tokens.count },
                rowLengths: microBatches.flatMap(\.segmentLengths)))
    }

    /// Trains on this process's share of a step; every process makes the same call with its own.
    ///
    /// - Throws: as ``callAsFunction(step:microBatches:)``, the same in every process; `CollectiveError` if one is gone.
    public func callAsFunction(step: Int, share: BatchSchedule.Share) throws -> Result {
        let scale = scaler?.scale
        let weight = try Tensor.full(
            [], (scale ?? 1) / objective.divisor(of: share),
            on: ready.adapted.base.options.device)
        let failure = NonFiniteStep(
            step: step, microBatches: share.microBatches, sharded: ready.sharded, weight: weight,
            lossScale: scale
        ) { batch, index throws(TorchError) in
            try losses(of: batch, step: step, index: share.firstIndex + index)
        }
        let (sums, ownRewards) = try differentiate(share, step: step, weight: weight)
        let lossSum = try ready.ranks.sum([sums.reduce(0, +)], for: "loss")[0]
        guard lossSum.isFinite else {
            try clearGradients()
            throw try failure.diagnosis(losses: sums)
        }
        try scaler?.unscale(ready.trainableParameters)
        let norm = try GradientClipping.clip(
            ready.trainableParameters, maxNorm: maxGradNorm,
            combine: ready.shards.map { _ in { try combine($0) } })
        guard norm.total.isFinite else {
            try clearGradients()
            if let overflow = overflow(step: step) { throw overflow }
            defer { try? clearGradients() }
            throw try failure.diagnosis(norm: norm.total, each: norm.each)
        }
        let rewards = try ownRewards.map {
            RewardSums(values: try ready.ranks.sum($0.values, for: "rewards")).means
        }
        let learningRate = schedule.learningRate(updatesDone: step)
        try Profile.range("optimizer") { () throws -> Void in
            try optimizer.update(learningRate: learningRate)
        }
        ready.shards?.parametersChanged()
        scaler?.update(hasOverflowed: false)
        try optimizer.clearGradients()
        return Result(
            loss: lossSum / objective.divisor(of: share), gradNorm: norm.total,
            gradNorms: norm.each.map { Float($0) }, lossScale: scale, learningRate: learningRate,
            numTargetTokens: share.numTargetTokens, numTokens: share.numTokens,
            rewards: rewards)
    }

    /// Forward and backward over the micro-batches, until one is not finite; the sum of each one's losses, and of rewards.
    ///
    /// The trainable tensors get their gradients. In several processes all micro-batches are gone through, since the others go through
    /// theirs.
    private func differentiate(
        _ share: BatchSchedule.Share, step: Int, weight: Tensor
    ) throws -> (sums: [Double], rewards: RewardSums?) {
        var sums: [Double] = []
        var rewards: RewardSums?
        let gradients = GradientSums(
            penaltyFactor: share.firstIndex == 0 ? scaler?.scale ?? 1 : 0)
        for (index, batch) in share.microBatches.enumerated() {
            let value = try Profile.range("forward") {
                let forward = ForwardPass(
                    losses: { batch, usesAdapters throws(TorchError) in
                        try losses(
                            of: batch, step: step, index: share.firstIndex + index,
                            usesAdapters: usesAdapters, gradients)
                    }, ranks: ready.ranks)
                return try objective(batch, of: share, forward)
            }
            let reduces = reducesEachMicroBatch || index == share.microBatches.count - 1
            ready.shards?.beginBackward(reducing: reduces ? gradients : nil)
            try Profile.range("backward") { () throws -> Void in
                try value.output.backward(
                    gradient: value.gradient.map { try $0 * weight } ?? weight)
                try ready.shards?.endBackward()
            }
            sums.append(try value.loss ?? value.output.detach().item())
            if let part = value.rewards {
                rewards = rewards ?? RewardSums()
                rewards? += part
            }
            if ready.shards == nil, sums.last?.isFinite == false { break }
        }
        if let shards = ready.shards {
            try shards.handOverGradients()
        } else {
            try gradients.handOver(to: ready.trainableParameters)
        }
        return (sums, rewards)
    }

    /// The norms of all tensors from those of the pieces in every process.
    private func combine(_ pieces: [Double]) throws -> GradientClipping.Norms {
        var squares = Array(repeating: 0.0, count: ready.gradients.entries.count)
        if ready.ranks.countsOnce {
            for (norm, whole) in zip(pieces, ready.wholes) {
                squares[whole] += norm * norm
            }
        }
        squares = try ready.ranks.sum(squares, for: "gradient norms")
        return (squares.reduce(0, +).squareRoot(), squares.map { $0.squareRoot() })
    }

    private func clearGradients() throws {
        try optimizer.clearGradients()
        try ready.shards?.clearGradients()
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
        of batch: TokenBatch, step: Int, index: Int, usesAdapters: Bool = true,
        _ gradients: GradientSums? = nil
    ) throws(TorchError) -> TokenLosses {
        let layout = SequenceLayout(segmentLengths: batch.segmentLengths)
        // The base is a reference as it is: nothing is dropped out or added.
        let context =
            usesAdapters
            ? ForwardContext(
                layout: layout, dropout: DropoutKey(seed: seed, step: step, microBatch: index),
                regularization: regularization, sharesPrefixes: sharesPrefixes,
                gradientSums: gradients)
            : ForwardContext(
                layout: layout, usesAdapters: false, sharesPrefixes: sharesPrefixes)
        return try ready.adapted.base.model.losses(
            tokens: batch.tokens, targets: batch.targets, context: context,
            execution: ready.execution)
    }
}
