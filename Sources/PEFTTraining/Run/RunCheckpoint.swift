import Foundation
import PEFTCheckpoints
import Torch

/// What a run needs to go on bit-exactly: adapter, optimizer state, and where it was.
///
/// Data order and dropout are functions of (seed, step), so no generator state is kept. A checkpoint is the folder
/// `checkpoint-<step>` with an adapter folder's files, `optimizer.safetensors` and `run_state.json`.
struct RunCheckpoint {
    private static let optimizerName = "optimizer.safetensors"
    private static let stateName = "run_state.json"

    /// The content of `run_state.json`.
    struct State: Codable, Equatable {
        /// The version of this layout.
        var format = 1
        /// Steps done.
        var step: Int
        /// Updates done: steps less those that were left out.
        var numUpdates = 0
        /// Steps that were left out since the last update, but for those that a dynamic loss scale left out.
        var numSkippedInARow = 0
        /// Every setting that changes the mathematics of the run, as text.
        var settings: [String: String]
        /// The step at which the run was to end, which a resumed run may change.
        var totalSteps: Int
        /// A digest of the encoded training rows.
        var dataDigest: String
        /// The held-out loss before the first step, if it was measured.
        var firstEvalLoss: Double?
        /// The last evaluation of the held-out rows, if there was one.
        var lastEvaluation: EvaluationMetrics?
        /// The loss of the last step.
        var lastLoss: Double?
        /// The loss scale of the next step; nil without loss scaling.
        var lossScale: LossScaler.State?
    }

    /// Where the run was.
    let state: State
    /// The checkpoint's folder, which is an adapter folder too.
    let folder: URL

    // MARK: - Writing

    /// Writes a checkpoint atomically and removes the oldest ones over the limit.
    ///
    /// - Throws: `CheckpointError.cannotWrite`, or ``Diagnosis`` with ``DiagnosisCode/savedDiffers``; what was there before
    ///   stays.
    static func write(
        _ state: State, adapted: AdaptedModel, optimizer: AdamW, in directory: URL, limit: Int?
    ) throws -> URL {
        let written = try CheckpointFolder.write(step: state.step, in: directory) { folder in
            try AdapterWriter(adapted: adapted).write(to: folder)
            try SafetensorsWriter.write(
                optimizer.state.map { SafetensorsTensor(name: $0.name, $0.tensor) },
                to: folder.appending(path: optimizerName))
            let encoder = JSONEncoder()
            encoder.outputFormatting = [.prettyPrinted, .sortedKeys]
            try AtomicFile.write(
                try encoder.encode(state), to: folder.appending(path: stateName))
        }
        if let limit {
            let all = CheckpointFolder.list(in: directory)
            for old in all.dropLast(max(1, limit)) {
                try old.remove()
            }
        }
        return written.url
    }

    // MARK: - Reading

    /// The newest complete checkpoint of an output folder, if there is one.
    ///
    /// - Throws: ``TrainingError/invalidState(path:reason:)``.
    static func newest(in directory: URL) throws -> RunCheckpoint? {
        guard let newest = CheckpointFolder.list(in: directory).last else { return nil }
        let url = newest.url.appending(path: stateName)
        let state: State
        do {
            state = try JSONDecoder().decode(State.self, from: try Data(contentsOf: url))
        } catch {
            throw TrainingError.invalidState(
                path: url.path, reason: "not the state of a run: \(error)")
        }
        return RunCheckpoint(state: state, folder: newest.url)
    }

    /// Compares the run that wrote this with the one that wants to go on.
    ///
    /// - Throws: ``TrainingError/resumeMismatch(checkpoint:differences:)`` with every difference.
    func requireMatch(settings: [String: String], dataDigest: String) throws {
        var differences = settings.keys.sorted().compactMap { key in
            let (now, then) = (settings[key] ?? "none", state.settings[key] ?? "none")
            return now == then
                ? nil : TrainingError.SettingDifference(key: key, expected: then, found: now)
        }
        if state.dataDigest != dataDigest {
            differences.append(
                .init(key: "data", expected: "the same rows", found: "other rows"))
        }
        guard differences.isEmpty else {
            throw TrainingError.resumeMismatch(
                checkpoint: folder.path, differences: differences)
        }
    }

    /// Puts the optimizer back to where it was.
    ///
    /// - Throws: `CheckpointError` naming every tensor that does not fit.
    func restore(_ optimizer: AdamW) throws {
        let file = try SafetensorsFile(folder.appending(path: Self.optimizerName))
        let tensors = try file.tensors(expected: optimizer.stateShapes)
        try withoutGrad {
            try optimizer.restore(tensors, step: state.numUpdates)
        }
    }
}
