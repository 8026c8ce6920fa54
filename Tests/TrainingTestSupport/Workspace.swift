package import Foundation
package import PEFT
import TestSupport

/// A temporary folder for the files of one test; removed with the object.
package final class Workspace {
    /// The folder.
    package let url: URL

    /// Makes an empty folder.
    package init() throws {
        url = try Checkout.temporaryFolder()
    }

    deinit {
        try? FileManager.default.removeItem(at: url)
    }

    /// The path of a file or folder in here.
    package func path(_ name: String) -> String { url.appending(path: name).path }

    /// Writes a file, and gives its path.
    @discardableResult
    package func write(_ text: String, as name: String) throws -> String {
        try Data(text.utf8).write(to: url.appending(path: name))
        return path(name)
    }

    /// Writes rows of tokens as JSON lines, and gives the file's path.
    @discardableResult
    package func write(rows: [[Int]], as name: String = "rows.jsonl") throws -> String {
        try write(rows.map { "{\"tokens\": \($0)}\n" }.joined(), as: name)
    }
}

/// Rows that a tiny model can learn: arithmetic progressions of different lengths.
package enum TinyRows {
    /// The first tokens of progressions modulo 31, all below the vocabulary of every tiny model.
    package static func make(_ count: Int, lengths: ClosedRange<Int> = 5...17) -> [[Int]] {
        (0..<count).map { row in
            let length = lengths.lowerBound + (row * 7) % lengths.count
            return (0..<length).map { 1 + (row * 5 + $0 * 3) % 31 }
        }
    }
}

/// What is in an output folder.
package enum RunFiles {
    /// The lines of `metrics.jsonl`.
    package static func metrics(in folder: String) throws -> [JSONObject] {
        let text = try String(contentsOfFile: folder + "/metrics.jsonl", encoding: .utf8)
        return try text.split(separator: "\n").map {
            try JSONValue(parsing: String($0)).objectValue ?? [:]
        }
    }

    /// The lines of `metrics.jsonl` without what the clock and the machine decide.
    package static func repeatableMetrics(in folder: String) throws -> [JSONObject] {
        try metrics(in: folder).map { line in
            JSONObject(
                line.filter { !["tokens_per_second", "peak_memory_bytes"].contains($0.key) }
                    .map { ($0.key, $0.value) })
        }
    }

    /// A number of each line of `metrics.jsonl` that has it.
    package static func metric(_ name: String, in folder: String) throws -> [Double] {
        try metrics(in: folder).compactMap { $0[name]?.doubleValue }
    }

    /// The names in a folder, sorted.
    package static func names(in folder: String) throws -> [String] {
        try FileManager.default.contentsOfDirectory(atPath: folder).sorted()
    }

    /// The bytes of a file.
    package static func bytes(_ path: String) throws -> Data {
        try Data(contentsOf: URL(filePath: path))
    }

    /// All tensors of an adapter folder as one list of numbers, in the order of their names.
    package static func adapter(in folder: String) throws -> [Float] {
        let file = try SafetensorsFile(
            URL(filePath: folder + "/adapter_model.safetensors"))
        return try file.entries.sorted { $0.name < $1.name }.flatMap {
            try file.tensor($0).floats()
        }
    }
}
