import Foundation
import PEFTCheckpoints

/// The folder of a run: new, or one to continue.
struct OutputFolder {
    private let url: URL
    private let isResumed: Bool

    private static let reports = ["report.html", "runs"]
    private static let adapterAndMetrics = [
        "adapter_model.safetensors", "adapter_config.json", "metrics.jsonl",
        WeightStart.folderName,
    ]

    /// Makes the folder; refuses one that holds a run unless it is resumed or overwritten.
    ///
    /// - Throws: ``TrainingError/outputExists(folder:)``, or `CheckpointError.cannotWrite`.
    init(_ config: FineTuneConfig, resumes: Bool) throws {
        url = URL(filePath: config.outputDir)
        isResumed = resumes
        let manager = FileManager.default
        do {
            try manager.createDirectory(at: url, withIntermediateDirectories: true)
        } catch {
            throw CheckpointError.cannotWrite(
                path: url.path, reason: "the folder cannot be made: \(error.localizedDescription)",
                remedy: "choose an output_dir on a disk that can be written")
        }
        try CheckpointFolder.removeStale(in: url)
        guard
            isResumed || config.overwriteOutputDir
                || (earlierFiles.isEmpty && CheckpointFolder.list(in: url).isEmpty)
        else {
            throw TrainingError.outputExists(folder: url.path)
        }
    }

    /// The adapter and metrics of a run that is there.
    private var earlierFiles: [URL] {
        Self.adapterAndMetrics.map { url.appending(path: $0) }
            .filter { FileManager.default.fileExists(atPath: $0.path) }
    }

    /// Removes the run that a new one replaces; called when nothing can refuse the new one any more.
    ///
    /// - Throws: an error of the file system, which names the file.
    func removeEarlierRun() throws {
        guard !isResumed else { return }
        for checkpoint in CheckpointFolder.list(in: url) {
            try checkpoint.remove()
        }
        let reports = Self.reports.map { url.appending(path: $0) }
            .filter { FileManager.default.fileExists(atPath: $0.path) }
        for file in earlierFiles + reports {
            try FileManager.default.removeItem(at: file)
        }
    }
}
