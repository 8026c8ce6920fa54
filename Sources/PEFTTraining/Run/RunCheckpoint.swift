import Foundation
import PEFTCheckpoints
import PEFTLayers
import PEFTSharding
import Torch

/// What a run needs to go on bit-exactly: adapter, optimizer state, and where it was.
///
/// Data order and dropout are functions of (seed, step), so no generator state is kept. A checkpoint is the folder
/// `checkpoint-<step>` with an adapter folder's files, the optimizer's state and `run_state.json`; nothing in it depends on the
/// number of processes.
struct RunCheckpoint {
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
        /// The best evaluation so far; nil where none is looked for.
        var best: ModelSelection.State?
    }

    /// Where the run was.
    let state: State
    /// The checkpoint's folder, which is an adapter folder too.
    let folder: URL

    // MARK: - Writing

    /// Writes a checkpoint atomically and removes the oldest ones over the limit, but for one; all processes together.
    ///
    /// Each process writes its pieces of the optimizer's state, then rank 0 writes the rest, and puts the folder under its name
    /// when everything is there. So a checkpoint of many processes is as whole as one of one.
    ///
    /// - Throws: `CheckpointError.cannotWrite`, or ``Diagnosis`` with ``DiagnosisCode/savedDiffers``; what was there before
    ///   stays. `RankFailure` if another process could not do its part.
    static func write(
        _ state: State, ready: ReadyModel, optimizer: Optimizer, in directory: URL, limit: Int?,
        keeping best: Int? = nil
    ) throws -> URL {
        let ranks = ready.ranks
        let target = directory.appending(path: "checkpoint-\(state.step)")
        guard ranks.isMain else {
            let paths = try ranks.together("checkpoint folder") { "" }
            try fill(URL(filePath: paths[0]), state, ready, optimizer)
            try ranks.together("checkpoint") { "" }
            return target
        }
        var (isBegun, isFilled) = (false, false)
        let written = Result {
            try CheckpointFolder.write(step: state.step, in: directory) { folder in
                isBegun = true
                try ranks.together("checkpoint folder") { folder.path }
                try fill(folder, state, ready, optimizer)
                isFilled = true
            }
        }
        if !isBegun { try ranks.together("checkpoint folder") { try written.get().url.path } }
        // What failed while the folder was filled has ended the others already.
        if !isFilled { return try written.get().url }
        try ranks.together("checkpoint") {
            _ = try written.get()
            let all = CheckpointFolder.list(in: directory)
            for old in outdated(all, limit: limit, keeping: best) { try old.remove() }
            return ""
        }
        return target
    }

    /// The oldest checkpoints over a limit, without the newest and the best.
    ///
    /// - Source: transformers 5.23 `trainer_utils.py:rotate_checkpoints`.
    static func outdated(
        _ all: [CheckpointFolder], limit: Int?, keeping best: Int?
    ) -> [CheckpointFolder] {
        guard let limit else { return [] }
        let candidates = all.dropLast().filter { $0.step != best }
        let numKept = max(limit, all.count - candidates.count)
        return Array(candidates.prefix(max(0, all.count - numKept)))
    }

    /// Writes this process's part into a folder that is not a checkpoint yet.
    private static func fill(
        _ folder: URL, _ state: State, _ ready: ReadyModel, _ optimizer: Optimizer
    ) throws {
        try ready.ranks.together("optimizer state") {
            guard FileManager.default.fileExists(atPath: folder.path) else {
                throw CheckpointError.cannotWrite(
                    path: folder.path, reason: "rank 0 made this folder, but it is not there",
                    remedy: "put output_dir on a disk that all processes share")
            }
            try OptimizerFiles(folder: folder).write(optimizer, of: ready)
            return ""
        }
        try ready.onMain("adapter") {
            try AdapterWriter(adapted: ready.adapted).write(to: folder)
            let encoder = JSONEncoder()
            encoder.outputFormatting = [.prettyPrinted, .sortedKeys]
            try AtomicFile.write(
                try encoder.encode(state), to: folder.appending(path: stateName))
        }
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
        // An option that was not there yet did what its default does.
        let defaults = FineTuneConfig().mathematicalSettings(numRanks: 1)
        var differences = settings.keys.sorted().compactMap { key in
            let now = settings[key] ?? "none"
            let then = state.settings[key] ?? defaults[key] ?? "none"
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

    /// Gives the trainable tensors the values that they had at a step; each process reads its pieces.
    ///
    /// - Throws: `CheckpointError` if that checkpoint does not have them.
    static func loadAdapter(ofStep step: Int, in directory: URL, ready: ReadyModel) throws {
        let folder = directory.appending(path: "checkpoint-\(step)")
        let file = try AdapterFolder.read(folder).weights
        var problems: [TensorProblem] = []
        for piece in ready.sharded.own {
            let shape = piece.whole.value.shape
            guard let entry = file.entry(piece.whole.path), entry.shape == shape else {
                problems.append(.missing(name: piece.whole.path, expected: shape))
                continue
            }
            try withoutGrad {
                let elements = try file.tensor(entry).reshape([-1])
                    .narrow(0, piece.range.lowerBound, piece.range.count)
                try piece.parameter.value.copyInPlace(
                    from: elements.reshape(piece.parameter.value.shape))
            }
        }
        guard problems.isEmpty else {
            throw CheckpointError.tensors(path: folder.path, problems: problems)
        }
        ready.shards?.parametersChanged()
    }

    /// Puts the optimizer back to where it was.
    ///
    /// - Throws: `CheckpointError` naming every tensor that does not fit.
    func restore(_ optimizer: Optimizer, of ready: ReadyModel) throws {
        try OptimizerFiles(folder: folder).restore(
            optimizer, of: ready, step: state.numUpdates)
    }
}
