import Foundation
import PEFTCheckpoints
import PEFTTokenizers

/// The file `metrics.jsonl`: one JSON object a line, appended as the run goes.
final class MetricsLog {
    private let url: URL
    private let handle: FileHandle
    /// Where the same numbers go besides; nil for nowhere.
    private let tensorBoard: TensorBoardLog?

    /// Opens the file for a run that starts at a step: later lines of an interrupted run are dropped.
    init(in folder: URL, startStep: Int, alsoTo targets: [ReportTarget] = []) throws {
        tensorBoard =
            targets.contains(.tensorboard)
            ? try TensorBoardLog(in: folder, startStep: startStep) : nil
        url = folder.appending(path: "metrics.jsonl")
        try Self.keep(linesUpTo: startStep, in: url)
        do {
            handle = try FileHandle(forWritingTo: url)
            try handle.seekToEnd()
        } catch {
            throw TrainingError.cannotWriteMetrics(
                path: url.path, reason: error.localizedDescription)
        }
    }

    /// Appends a line in one write.
    func append(_ line: JSONObject) throws {
        try tensorBoard?.append(line)
        do {
            try handle.write(contentsOf: Data((JSONValue.object(line).serialized() + "\n").utf8))
        } catch {
            throw TrainingError.cannotWriteMetrics(
                path: url.path, reason: error.localizedDescription)
        }
    }

    private struct Line: Decodable {
        let step: Int
    }

    private static func keep(linesUpTo step: Int, in url: URL) throws {
        let old = (try? Data(contentsOf: url)) ?? Data()
        var kept = Data()
        for line in old.split(separator: 0x0A) {
            // A line that a killed process left unfinished does not decode, and goes.
            guard let entry = try? JSONDecoder().decode(Line.self, from: line),
                step > 0, entry.step <= step
            else { continue }
            kept += line + Data([0x0A])
        }
        try AtomicFile.write(kept, to: url)
    }
}
