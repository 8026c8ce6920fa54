import Foundation
import PEFTAdapters
import PEFTCheckpoints
import PEFTData
import PEFTModels
import PEFTSharding
import PEFTTokenizers
import Torch

/// Runs the steps of a checked model: logging, evaluation, checkpoints, interruption.
///
/// It takes a ``ReadyModel`` and nothing less, and makes the optimizer from it.
public final class Trainer {
    private let ready: ReadyModel
    private let config: FineTuneConfig
    private let batches: BatchSchedule
    private let heldOut: [HeldOutRows]
    private let plan: RunPlan
    private let totalSteps: Int
    private let optimizer: Optimizer
    private let trainStep: TrainStep
    private let outputFolder: URL
    private let report: (TrainingEvent) -> Void
    private var state: RunCheckpoint.State
    private var monitor: TrainingMonitor
    private var profile: StepProfile?
    private let selection: ModelSelection?
    /// The step of the checkpoint that this process has written last.
    private var savedStep: Int?
    private var traffic = (sentBytes: 0, numSteps: 0)

    /// Steps in a row that may be left out for infinities or NaNs before the run ends.
    private static let maxSkippedInARow = 10

    /// Prepares a run, from a checkpoint or from the start.
    init(
        _ ready: ReadyModel, config: FineTuneConfig, batches: BatchSchedule,
        heldOut: [HeldOutRows], plan: RunPlan, state: RunCheckpoint.State, resumed: RunCheckpoint?,
        report: @escaping (TrainingEvent) -> Void
    ) throws {
        self.ready = ready
        self.config = config
        self.batches = batches
        self.heldOut = heldOut
        self.plan = plan
        self.report = report
        self.state = state
        selection = config.modelSelection
        outputFolder = URL(filePath: config.outputDir)
        totalSteps = config.totalSteps(stepsPerEpoch: batches.stepsPerEpoch)
        optimizer = try Optimizer(
            ready.sharded.own,
            rule: config.optim.rule(config, adapters: ready.adapted.adapter.adapters),
            groups: config.optimizerGroups, wholes: ready.sharded.trainableParameters,
            ranks: ready.ranks, offloadFolder: config.optimizerFolder)
        try resumed?.restore(optimizer, of: ready)
        monitor = try TrainingMonitor(ready)
        trainStep = try TrainStep(
            ready, optimizer: optimizer,
            schedule: config.schedule(totalSteps: totalSteps),
            maxGradNorm: config.maxGradNorm, seed: UInt64(config.seed),
            lossScaling: config.lossScaling,
            reducesEachMicroBatch: config.reduceEachMicroBatch,
            regularization: config.regularization, objective: config.objective,
            sharesPrefixes: config.sharePrefixes)
        if let path = config.profile {
            let numSteps = totalSteps - state.step
            try ready.ranks.together("profile") {
                if ready.ranks.isMain { profile = try StepProfile(path: path, numSteps: numSteps) }
                return ""
            }
        }
        if let scale = state.lossScale { trainStep.scaler?.restore(scale) }
    }

    /// Trains to the last step, or until the stop request; writes the adapter at the end.
    ///
    /// - Parameter stop: looked at after each step; then a checkpoint is written and the run returns.
    /// - Returns: what was done, or nil if it was stopped.
    /// - Throws: ``TrainingError``, `CheckpointError` or `TorchError`; checkpoints written before stay.
    func run(stop: StopRequest) throws -> RunSummary? {
        let log =
            try ready.ranks.isMain
            ? MetricsLog(
                in: outputFolder, startStep: state.step, alsoTo: config.reportTo) : nil
        if state.step == 0, config.evalOnStart {
            state.firstEvalLoss = try evaluate(log)
        }
        let clock = ContinuousClock()
        let start = clock.now
        var meter = ThroughputMeter(clock: clock)
        var numTokens = 0
        while state.step < totalSteps, selection?.isOver(state.best) != true {
            if let result = try step(log) {
                numTokens += result.numTokens
                meter.add(tokens: result.numTokens)
                try noteMetrics(result, meter: &meter, log)
            }
            try writeProfile(isLast: false)
            try afterStep(meter: &meter, log)
            if let signal = try signal(of: stop) {
                try writeProfile(isLast: true)
                try writeCheckpoint()
                report(.interrupted(signal: StopRequest.name(ofSignal: signal), step: state.step))
                return nil
            }
        }
        return try finish(
            log, trainSeconds: (clock.now - start).seconds, numTokens: numTokens)
    }

    /// Takes the next step, or leaves it out if it is not finite and the run is to go on.
    private func step(_ log: MetricsLog?) throws -> TrainStep.Result? {
        let share = batches.share(ofRank: ready.ranks.rank, step: state.step)
        do {
            let before = sentBytes
            let result = try profiled { try trainStep(step: state.step, share: share) }
            traffic.sentBytes += sentBytes - before
            traffic.numSteps += 1
            state.step += 1
            state.lastLoss = result.loss
            state.numSkippedInARow = 0
            for warning in monitor.add(result) { report(.warning(warning)) }
            return result
        } catch let overflow as LossScaleOverflow {
            try skip(overflow.diagnosis, log, lossScale: overflow.scale)
            return nil
        } catch let diagnosis as Diagnosis
            where diagnosis.code.isOfOneStep && config.onNonFinite == .skip
            && trainStep.scaler?.isExhausted != true
        {
            state.numSkippedInARow += 1
            guard state.numSkippedInARow < Self.maxSkippedInARow else { throw diagnosis }
            try skip(diagnosis, log)
            return nil
        }
    }

    private func profiled(_ step: () throws -> TrainStep.Result) throws -> TrainStep.Result {
        guard let profile else { return try step() }
        return try profile.step(state.step + 1, step)
    }

    private func writeProfile(isLast: Bool) throws {
        if let written = try profile?.write(isLast: isLast) { report(.notice(written)) }
    }

    /// Bytes that this process has sent so far.
    private var sentBytes: Int { ready.ranks.world?.traffic.sentBytes ?? 0 }

    /// Leaves the step out, and says so.
    private func skip(
        _ diagnosis: Diagnosis, _ log: MetricsLog?, lossScale: Double? = nil
    ) throws {
        state.step += 1
        try log?.append(
            JSONObject(
                [
                    ("step", .int(state.step)),
                    ("skipped", .string(diagnosis.code.rawValue)),
                ] + (lossScale.map { [("loss_scale", .double($0))] } ?? [])))
        report(.warning(diagnosis))
    }

    private func noteMetrics(
        _ result: TrainStep.Result, meter: inout ThroughputMeter, _ log: MetricsLog?
    ) throws {
        let step = state.step
        let isLogged = step.isMultiple(of: max(1, config.loggingSteps)) || step == totalSteps
        let metrics = StepMetrics(
            step: step, loss: result.loss, gradNorm: result.gradNorm,
            lossScale: result.lossScale, learningRate: result.learningRate,
            numTargetTokens: result.numTargetTokens, tokensPerSecond: meter.tokensPerSecond,
            peakMemoryBytes: MemoryStatistics.current().peakResidentBytes,
            rewards: result.rewards)
        if isLogged {
            try log?.append(metrics.json)
            meter.restart()
        }
        report(.step(metrics, isLogged: isLogged))
    }

    private func afterStep(meter: inout ThroughputMeter, _ log: MetricsLog?) throws {
        let step = state.step
        if config.evalSteps > 0, step.isMultiple(of: config.evalSteps), step < totalSteps {
            _ = try evaluate(log)
            meter.restart()
        }
        if config.saveSteps > 0, step.isMultiple(of: config.saveSteps), step < totalSteps {
            try writeCheckpoint()
            meter.restart()
        }
    }

    private func finish(
        _ log: MetricsLog?, trainSeconds: Double, numTokens: Int
    ) throws -> RunSummary {
        try writeProfile(isLast: true)
        if state.lastEvaluation?.step != state.step { _ = try evaluate(log) }
        try writeCheckpoint()
        try loadBest()
        try ready.onMain("adapter") {
            try AdapterWriter(adapted: ready.adapted).write(to: outputFolder)
        }
        try ready.sharded.requireChange(in: outputFolder, numSteps: state.step)
        let summary = RunSummary(
            step: state.step, trainSeconds: trainSeconds,
            tokensPerSecond: Double(numTokens) / max(trainSeconds, .leastNonzeroMagnitude),
            peakMemoryBytes: MemoryStatistics.current().peakResidentBytes,
            plannedMemoryBytes: plan.peakMemoryBytes,
            sentBytesPerStep: traffic.sentBytes / max(1, traffic.numSteps),
            plannedSentBytesPerStep: plan.sentBytesPerStep, trainLoss: state.lastLoss ?? .nan,
            firstEvalLoss: state.firstEvalLoss,
            lastEvalLoss: state.lastEvaluation?.evalLoss, outputDir: config.outputDir)
        report(.finished(summary))
        return summary
    }

    /// Scores the held-out rows with the model as it is.
    ///
    /// - Returns: the loss, of several files the mean over all of their targets.
    private func evaluate(_ log: MetricsLog?) throws -> Double? {
        let all = try heldOut.map { heldOut in
            let metrics = try Evaluation.metrics(
                of: heldOut, config.objective, ready, maxRows: config.perDeviceEvalBatchSize,
                step: state.step)
            try log?.append(metrics.json)
            report(.evaluation(metrics))
            return metrics
        }
        guard let first = all.first else { return nil }
        var mean = first
        let count = all.reduce(0) { $0 + $1.evalNumTargetTokens }
        if all.count > 1 {
            let sum = all.reduce(0) { $0 + $1.evalLoss * Double($1.evalNumTargetTokens) }
            mean = EvaluationMetrics(
                step: state.step, evalLoss: sum / Double(count),
                evalPerplexity: exp(sum / Double(count)), evalNumTargetTokens: count)
        }
        state.lastEvaluation = mean
        try select(
            Dictionary(all.flatMap(\.values)) { first, _ in first })
        return mean.evalLoss
    }

    /// Notes whether an evaluation is the best so far; such a one is saved, so that it can be gone back to.
    private func select(_ values: [String: Double]) throws {
        guard let selection else { return }
        state.best = try selection.adding(values, step: state.step, to: state.best)
        if config.loadBestModelAtEnd, state.best?.step == state.step, state.step > 0 {
            try writeCheckpoint()
        }
        if selection.isOver(state.best), let best = state.best {
            report(
                .notice(
                    "stopping at step \(state.step): \(selection.metric) was best at step "
                        + "\(best.step), \(best.value)"))
        }
    }

    /// Goes back to the adapter of the best evaluation.
    private func loadBest() throws {
        guard config.loadBestModelAtEnd, let selection, let best = state.best,
            best.step != state.step
        else { return }
        guard best.step > 0 else {
            return report(
                .notice("\(selection.metric) was best before the first step; the last is kept"))
        }
        try RunCheckpoint.loadAdapter(ofStep: best.step, in: outputFolder, ready: ready)
        report(
            .notice(
                "the adapter is that of step \(best.step), where \(selection.metric) was best: "
                    + "\(best.value)"))
    }

    /// The signal that asks the run to end, if any process was sent one.
    private func signal(of stop: StopRequest) throws -> Int32? {
        let own = stop.signal
        guard try ready.ranks.sum([own == nil ? 0 : 1], for: "stop requests")[0] > 0 else {
            return nil
        }
        let all = try ready.ranks.exchange(own.map(String.init) ?? "", for: "signals")
        guard let signal = all.lazy.compactMap({ Int32($0) }).first else { return nil }
        stop.request(signal: signal)
        return signal
    }

    private func writeCheckpoint() throws {
        guard savedStep != state.step else { return }
        for warning in try monitor.look() { report(.warning(warning)) }
        try saveState()
    }

    private func saveState() throws {
        state.numUpdates = optimizer.step
        state.lossScale = trainStep.scaler?.state
        let url = try RunCheckpoint.write(
            state, ready: ready, optimizer: optimizer, in: outputFolder,
            limit: config.saveTotalLimit,
            keeping: config.loadBestModelAtEnd ? state.best?.step : nil)
        savedStep = state.step
        report(.checkpointSaved(path: url.path, step: state.step))
    }

    /// Writes a checkpoint without the other processes, of which one is lost, where this one has everything.
    ///
    /// Collectives come before an update or after the step is counted, so what is here is that of the steps done. Every process that is
    /// left does so; what two of them write of the same step is the same. A disk that refuses is told as a note, since the loss is the
    /// error.
    func writeCheckpointAlone() {
        guard ready.ranks.numShards == 1, state.step > 0 else { return }
        ready.ranks.goOnAlone()
        let isThere = CheckpointFolder.list(in: outputFolder).contains { $0.step == state.step }
        guard !isThere else { return }
        do {
            try saveState()
        } catch {
            report(.notice("no checkpoint of step \(state.step): \(error)"))
        }
    }
}

/// Tokens a second since the last restart.
struct ThroughputMeter {
    private let clock: ContinuousClock
    private var start: ContinuousClock.Instant
    private var numTokens = 0

    init(clock: ContinuousClock) {
        self.clock = clock
        start = clock.now
    }

    mutating func add(tokens: Int) { numTokens += tokens }

    mutating func restart() { self = ThroughputMeter(clock: clock) }

    var tokensPerSecond: Double {
        Double(numTokens) / max((clock.now - start).seconds, .leastNonzeroMagnitude)
    }
}

extension Duration {
    /// The duration as a number of seconds.
    var seconds: Double {
        Double(components.seconds) + Double(components.attoseconds) * 1e-18
    }
}
