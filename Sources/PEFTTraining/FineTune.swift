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

        let preflight = Preflight(
            config, checkpoint: checkpoint, onFailure: { throw $0 }, report: report)
        guard let prepared = try preflight.run() else {
            preconditionFailure("a check that fails throws")
        }
        report(.preflight(preflight.result))

        let totalSteps = config.totalSteps(stepsPerEpoch: prepared.batches.stepsPerEpoch)
        for notice in notices(config, prepared, checkpoint, totalSteps: totalSteps) {
            report(.notice(notice))
        }
        var state =
            checkpoint?.state
            ?? RunCheckpoint.State(
                step: 0, settings: config.mathematicalSettings, totalSteps: totalSteps,
                dataDigest: prepared.data.digest)
        state.totalSteps = totalSteps
        try output.removeEarlierRun()
        let trainer = try Trainer(
            prepared.ready, config: config, batches: prepared.batches, heldOut: prepared.heldOut,
            state: state, resumed: checkpoint, report: report)
        report(.started(config.description(startStep: state.step, batches: prepared.batches)))
        return try trainer.run(stop: stop)
    }

    /// What a person should know before the first step, though it is no error.
    private static func notices(
        _ config: FineTuneConfig, _ prepared: PreparedRun, _ checkpoint: RunCheckpoint?,
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
