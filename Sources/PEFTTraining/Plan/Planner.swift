import Foundation
import PEFTAdapters
import PEFTData

/// Predicts what runs of one model on the same rows take.
struct Planner {
    /// The model's `config.json`.
    let configuration: Data
    /// What is attached; nil for the adapter that the configuration of the run describes.
    let adapter: (any AdapterConfig)?
    /// The rows, as far as they are known.
    let rows: PlannedRows
    /// Bytes that a process holds besides tensors.
    let processBytes: Int

    /// Plans one run.
    ///
    /// - Parameters:
    ///   - config: the run; valid.
    ///   - numRanks: its processes.
    /// - Returns: memory and traffic of one of them.
    /// - Throws: what a run would be refused with: `ModelError`, `AdapterError`, `BatchScheduleError`, ``TrainingError``.
    func plan(_ config: FineTuneConfig, numRanks: Int) throws -> RunPlan {
        let largest = try rows.largest(config, numRanks: numRanks)
        let dryRun = StepDryRun(
            configuration: configuration, config: config, adapter: adapter ?? config.lora,
            numRanks: numRanks, microBatch: largest.training,
            evaluationBatch: largest.evaluation)
        return RunPlan(
            try dryRun(), numRanks: numRanks, numTokens: largest.training.tokens.count,
            processBytes: processBytes)
    }
}
