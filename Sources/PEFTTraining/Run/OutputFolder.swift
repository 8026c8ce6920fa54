import Foundation
import PEFTCheckpoints

/// The folder of a run: new, or one to continue.
struct OutputFolder {
    private let url: URL
    private let isResumed: Bool

    /// Makes the folder; refuses one that holds a run unless it is resumed or overwritten.
    ///
    /// - Throws: ``TrainingError/outputExists(folder:)``, or `CheckpointError.cannotWrite`.
    init(_ config: FineTuneConfig) throws {
        url = URL(filePath: config.outputDir)
        isResumed = config.resume
        let manager = FileManager.default
        do {
            try manager.createDirectory(at: url, withIntermediateDirectories: true)
        } catch {
            throw CheckpointError.cannotWrite(
                path: url.path, reason: "the folder cannot be made: \(error.localizedDescription)",
                remedy: "choose an output_dir on a disk that can be written")
        }
        try CheckpointFolder.removeStale(in: url)
        guard !isResumed else { return }
        let checkpoints = CheckpointFolder.list(in: url).map(\.url)
        let files = ["adapter_model.safetensors", "adapter_config.json", "metrics.jsonl"]
            .map { url.appending(path: $0) }.filter { manager.fileExists(atPath: $0.path) }
        guard config.overwriteOutputDir || (checkpoints + files).isEmpty else {
            throw TrainingError.outputExists(folder: url.path)
        }
        for old in checkpoints + files {
            try manager.removeItem(at: old)
        }
    }

    /// The checkpoint to continue from, if the run is resumed and there is one.
    ///
    /// - Throws: ``TrainingError/invalidState(path:reason:)``.
    func newestCheckpoint() throws -> RunCheckpoint? {
        isResumed ? try RunCheckpoint.newest(in: url) : nil
    }
}
