import Foundation
import PEFTAdapters
import PEFTCheckpoints
import PEFTData
import PEFTLayers
import PEFTModels
import Torch

/// The main path: configuration to adapter, in the order that the stages' types enforce.
public enum FineTune {
    /// Fine-tunes a model.
    ///
    /// - Parameters:
    ///   - config: what to do; validated first.
    ///   - stop: asks the run, from any thread, to write a checkpoint and end after its current step.
    ///   - report: called with each event, on the caller's thread.
    /// - Returns: what was done, or nil if it was stopped.
    /// - Throws: an error that names what, where, expected, found and the remedy; what was written before stays.
    @discardableResult
    public static func run(
        _ config: FineTuneConfig, stop: StopRequest = StopRequest(),
        report: @escaping (TrainingEvent) -> Void = { _ in }
    ) throws -> RunSummary? {
        try config.validate()
        try TorchRuntime.checkVersion()
        if let threads = config.threads { try TorchRuntime.setNumThreads(threads) }
        let output = try OutputFolder(config)
        let checkpoint = try output.newestCheckpoint()
        if config.resume, checkpoint == nil {
            report(.notice("\(config.outputDir) has no checkpoint yet: starting at step 0"))
        }

        let clock = ContinuousClock()
        let start = clock.now
        let base = try BaseModel(at: URL(filePath: config.model), options: config.baseModel)
        let data = try readRows(config.data, base, config, report)
        let heldOut = try config.evalData.map { try readRows($0, base, config, report) }
        let batches = try BatchSchedule(dataset: data, options: config.batches)

        let settings = config.mathematicalSettings
        let digest = data.digest
        try checkpoint?.requireMatch(settings: settings, dataDigest: digest)
        let adapted = try makeAdapted(base, config, checkpoint)
        report(.loaded(adapted.description(loadSeconds: (clock.now - start).seconds)))
        let ready = try ReadyModel(
            checking: ShardedModel(adapted, execution: config.execution),
            sample: data.sample(maxTokens: ReadyModel.maxSampleTokens))
        report(
            .gradientCheck(
                GradientCheck(
                    numTensors: ready.trainableParameters.count, loss: ready.gradients.loss)))

        let totalSteps = config.totalSteps(stepsPerEpoch: batches.stepsPerEpoch)
        for notice in notices(config, base, data, checkpoint, totalSteps: totalSteps) {
            report(.notice(notice))
        }
        var state =
            checkpoint?.state
            ?? RunCheckpoint.State(
                step: 0, settings: settings, totalSteps: totalSteps, dataDigest: digest)
        state.totalSteps = totalSteps
        try output.removeEarlierRun()
        let trainer = try Trainer(
            ready, config: config, batches: batches, heldOut: heldOut, state: state,
            resumed: checkpoint, report: report)
        report(.started(config.description(startStep: state.step, batches: batches)))
        return try trainer.run(stop: stop)
    }

    /// What a person should know before the first step, though it is no error.
    private static func notices(
        _ config: FineTuneConfig, _ base: BaseModel, _ data: TokenDataset,
        _ checkpoint: RunCheckpoint?, totalSteps: Int
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
        let (longest, limit) = (data.audit.longestRow, base.model.maxPositionEmbeddings)
        if longest > limit {
            notices.append(
                "rows of up to \(longest) tokens, but the model was trained on \(limit) positions")
        }
        return notices
    }

    /// Reads and encodes a file of rows, and reports what is learned from it.
    private static func readRows(
        _ path: String, _ base: BaseModel, _ config: FineTuneConfig,
        _ report: (TrainingEvent) -> Void
    ) throws -> TokenDataset {
        let dataset = try TokenDataset.load(
            URL(filePath: path), tokenizer: try base.files.makeTokenizer(),
            options: config.encoding)
        try dataset.requireTokens(below: base.model.vocabularySize)
        report(.datasetAudit(dataset.summary(path: path)))
        return dataset
    }

    /// Attaches the checkpoint's adapter, the one to start from, or a new one.
    private static func makeAdapted(
        _ base: BaseModel, _ config: FineTuneConfig, _ checkpoint: RunCheckpoint?
    ) throws -> AdaptedModel {
        guard let folder = checkpoint?.folder ?? config.adapter.map({ URL(filePath: $0) }) else {
            return try AdaptedModel(base, adapter: config.lora, seed: UInt64(config.seed))
        }
        return try AdaptedModel(
            base, loading: folder, seed: UInt64(config.seed),
            ignoresBaseFingerprint: config.ignoreBaseFingerprint)
    }
}
