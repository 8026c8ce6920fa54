import Foundation
import PEFTAdapters
import PEFTCheckpoints
import PEFTData
import PEFTLayers
import PEFTModels
import PEFTSharding
package import Torch

/// The main path: configuration to adapter, in the order that the stages' types enforce.
public enum FineTune {
    /// Fine-tunes a model, in one process or as one of the processes that a launcher has started.
    ///
    /// - Parameters:
    ///   - config: what to do; validated first, the same in every process.
    ///   - environment: the variables by which a launcher says who the process is; none for a run of one process.
    ///   - stop: asks the run, from any thread, to write a checkpoint and end after its current step.
    ///   - report: called with each event, on the caller's thread; of several processes only in that of rank 0.
    /// - Returns: what was done, or nil if it was stopped.
    /// - Throws: an error that names what, where, expected, found and the remedy; what was written before stays.
    @discardableResult
    public static func run(
        _ config: FineTuneConfig,
        environment: [String: String] = [:],
        stop: StopRequest = StopRequest(), report: @escaping (TrainingEvent) -> Void = { _ in }
    ) throws -> RunSummary? {
        try run(config, environment: environment, on: nil, stop: stop, report: report)
    }

    /// The same on a device that the configuration cannot name; nil for the one that it names.
    @discardableResult
    package static func run(
        _ config: FineTuneConfig, environment: [String: String] = [:], on device: Device?,
        stop: StopRequest = StopRequest(), report: @escaping (TrainingEvent) -> Void = { _ in }
    ) throws -> RunSummary? {
        try config.validate()
        try ComputingProcess.prepare(numThreads: config.threads)
        let launch = try LaunchEnvironment(environment)
        let device = try device ?? config.device.device(localRank: launch.localRank)
        let ranks = try RankGroup(launch, config, on: device)
        let run = Run(
            config: config, device: device, ranks: ranks, restartCount: launch.restartCount,
            stop: stop,
            report: { event in
                // The others say only that they end early.
                if case .interrupted = event { return report(event) }
                if ranks.isMain { report(event) }
            })
        return try run.start()
    }
}

/// One run in this process.
private struct Run {
    let config: FineTuneConfig
    let device: Device
    let ranks: RankGroup
    let restartCount: Int
    let stop: StopRequest
    let report: (TrainingEvent) -> Void

    func start() throws -> RunSummary? {
        try Agreement.require(
            config.agreedSettings, topic: "settings", ranks: ranks)
        // A launcher that starts a run again wants it to go on.
        let resumes = config.resume || (restartCount > 0 && !config.overwriteOutputDir)
        var output: OutputFolder?
        try ranks.together("output folder") {
            if ranks.isMain { output = try OutputFolder(config, resumes: resumes) }
            return ""
        }
        let checkpoint =
            resumes ? try RunCheckpoint.newest(in: URL(filePath: config.outputDir)) : nil
        if resumes, checkpoint == nil {
            report(.notice("\(config.outputDir) has no checkpoint yet: starting at step 0"))
        }

        let start: URL?
        switch try calibrate(checkpoint) {
        case .interrupted(let signal):
            report(.interrupted(signal: StopRequest.name(ofSignal: signal), step: 0))
            return nil
        case .folder(let folder): start = folder
        }
        let preflight = Preflight(
            config, checkpoint: checkpoint, start: start, ranks: ranks, device: device,
            onFailure: { throw $0 },
            report: report)
        guard let prepared = try preflight.run() else {
            preconditionFailure("a check that fails throws")
        }
        try Agreement.require(prepared, checkpoint, ranks: ranks)
        report(.preflight(preflight.result))
        let summary = try train(prepared, checkpoint, output)
        try ranks.together("report") {
            if ranks.isMain, config.reportTo.contains(.html) {
                try HTMLReport(config: config, preflight: preflight.result).write()
            }
            return ""
        }
        return summary
    }

    /// What came of computing how a new adapter starts.
    private enum Calibration {
        /// The folder of the adapter; nil where nothing was to be computed.
        case folder(URL?)
        /// A signal asked to end before it was computed.
        case interrupted(Int32)
    }

    /// Computes how a new adapter starts, where rows decide it: in one process, for all.
    private func calibrate(_ checkpoint: RunCheckpoint?) throws -> Calibration {
        let seed = UInt64(config.seed)
        guard checkpoint == nil, config.adapter == nil,
            let start = CalibratedStart(config.lora, seed: seed)
        else { return .folder(nil) }
        let folder = URL(filePath: config.outputDir)
            .appending(path: CalibratedStart.folderName)
        report(
            .notice(
                "computing init_lora_weights \(config.initLoraWeights.name) from at "
                    + "most \(config.calibrationRows) rows, on the base as it is in its files"))
        let signals = try ranks.together("start of the adapter") {
            guard ranks.isMain else { return "" }
            let base = try BaseModel(
                at: URL(filePath: config.model),
                options: BaseModelOptions(
                    quantization: nil, computeDType: config.dtype.torch, device: device))
            let isWritten = try start.write(
                base, batches: calibrationBatches(for: base),
                recomputingEvery: config.recomputationInterval, to: folder, stop: stop)
            return isWritten ? "" : "\(stop.signal ?? SIGINT)"
        }
        if let signal = signals.lazy.compactMap({ Int32($0) }).first {
            stop.request(signal: signal)
            return .interrupted(signal)
        }
        return .folder(folder)
    }

    /// The first rows in the order of training.
    private func calibrationBatches(for base: BaseModel) throws -> [TokenBatch] {
        let files = RowFilesOfRun(config)
        let tokenizer = try base.files.makeTokenizer()
        let data = files.join(
            try files.training.map { try files.load($0, tokenizer: tokenizer) })
        try data.requireTokens(below: base.model.vocabularySize)
        let schedule = try BatchSchedule(dataset: data, options: config.batches(numRanks: 1))
        var batches: [TokenBatch] = []
        var numRows = 0
        for step in 0..<schedule.stepsPerEpoch {
            for batch in schedule.share(ofRank: 0, step: step).microBatches
            where numRows < config.calibrationRows {
                batches.append(batch)
                numRows += batch.rows.count
            }
            if numRows >= config.calibrationRows { break }
        }
        return batches
    }

    private func train(
        _ prepared: PreparedRun, _ checkpoint: RunCheckpoint?, _ output: OutputFolder?
    ) throws -> RunSummary? {
        let totalSteps = config.totalSteps(stepsPerEpoch: prepared.batches.stepsPerEpoch)
        for notice in notices(prepared, checkpoint, totalSteps: totalSteps) {
            report(.notice(notice))
        }
        var state =
            checkpoint?.state
            ?? RunCheckpoint.State(
                step: 0, settings: config.mathematicalSettings(numRanks: ranks.size),
                totalSteps: totalSteps, dataDigest: prepared.data.digest)
        state.totalSteps = totalSteps
        try ranks.together("output folder") {
            try output?.removeEarlierRun()
            return ""
        }
        let trainer = try Trainer(
            prepared.ready, config: config, batches: prepared.batches,
            heldOut: prepared.heldOut, plan: prepared.plan, state: state, resumed: checkpoint,
            report: report)
        report(.started(config.description(startStep: state.step, batches: prepared.batches)))
        do {
            return try trainer.run(stop: stop)
        } catch {
            // What broke a gather has become words on its way through autograd.
            let cause = error is TorchError ? prepared.ready.shards?.failure ?? error : error
            if (cause as? CollectiveError)?.isLoss == true { trainer.writeCheckpointAlone() }
            throw cause
        }
    }

    /// What a person should know before the first step, though it is no error.
    private func notices(
        _ prepared: PreparedRun, _ checkpoint: RunCheckpoint?,
        totalSteps: Int
    ) -> [String] {
        var notices: [String] = []
        if let planned = checkpoint?.state.totalSteps, planned != totalSteps {
            notices.append(
                "the run was planned to end at step \(planned), now at \(totalSteps): a schedule "
                    + "that decays goes on differently from here")
        }
        if config.adapter != nil, checkpoint == nil {
            notices.append(
                "rank, alpha, dropout and targets are those of the adapter to start from, not of "
                    + "the lora_* and *_modules settings")
        }
        let (longest, limit) = (
            prepared.data.audit.longestRow, prepared.base.model.maxPositionEmbeddings
        )
        if longest > limit {
            notices.append(
                "rows of up to \(longest) tokens, but the model was trained on \(limit) positions")
        }
        return notices
    }
}
