public import Foundation

/// The weights of a Hugging Face folder: `model.safetensors`, or an index and its shards, as one set of tensors.
public final class ShardedSafetensors {
    /// The folder.
    public let folder: URL
    /// The files in the order of their names.
    public let files: [SafetensorsFile]
    private let locations: [String: (file: SafetensorsFile, entry: SafetensorsEntry)]

    static let singleName = "model.safetensors"
    package static let indexName = "model.safetensors.index.json"

    /// Opens every weight file of `folder`.
    ///
    /// - Throws: `CheckpointError`: no weights there, weights in another format, or with an index every missing
    ///   shard and every difference between index and shards at once.
    public init(folder: URL) throws(CheckpointError) {
        self.folder = folder
        let single = folder.appending(path: Self.singleName)
        let index = folder.appending(path: Self.indexName)
        if FileManager.default.fileExists(atPath: single.path) {
            let file = try SafetensorsFile(single)
            files = [file]
            locations = Self.locate([file])
        } else if FileManager.default.fileExists(atPath: index.path) {
            files = try Self.openShards(index: index, folder: folder)
            locations = Self.locate(files)
        } else {
            throw Self.noWeights(folder)
        }
    }

    /// The names of all tensors, sorted.
    public var names: [String] { locations.keys.sorted() }

    /// The entry of the tensor called `name`.
    public func entry(_ name: String) -> SafetensorsEntry? { locations[name]?.entry }

    /// The file that holds the tensor called `name`, and its entry there.
    func location(_ name: String) -> (file: SafetensorsFile, entry: SafetensorsEntry)? {
        locations[name]
    }

    /// The size of all weight files.
    public var sizeBytes: Int { files.reduce(0) { $0 + $1.file.sizeBytes } }

    private static func locate(
        _ files: [SafetensorsFile]
    ) -> [String: (file: SafetensorsFile, entry: SafetensorsEntry)] {
        var result: [String: (file: SafetensorsFile, entry: SafetensorsEntry)] = [:]
        for file in files {
            for entry in file.entries { result[entry.name] = (file, entry) }
        }
        return result
    }

    private static func openShards(
        index: URL, folder: URL
    ) throws(CheckpointError) -> [SafetensorsFile] {
        let weightMap: [String: String]
        do {
            weightMap = try JSONDecoder().decode(ShardIndex.self, from: Data(contentsOf: index))
                .weightMap
        } catch {
            throw .malformed(
                path: index.path, reason: "not a JSON object with a \"weight_map\" of file names",
                remedy: "the file is damaged: copy or download it again")
        }
        var problems: [TensorProblem] = []
        var files: [SafetensorsFile] = []
        let byFile = Dictionary(grouping: weightMap.keys) { weightMap[$0] ?? "" }
        for (name, tensors) in byFile.sorted(by: { $0.key < $1.key }) {
            let url = folder.appending(path: name)
            guard FileManager.default.fileExists(atPath: url.path) else {
                problems.append(.missingShard(file: name, numTensors: tensors.count))
                continue
            }
            let file = try SafetensorsFile(url)
            files.append(file)
            for tensor in tensors.sorted() where file.entry(tensor) == nil {
                problems.append(.notInShard(name: tensor, file: name))
            }
            for entry in file.entries where weightMap[entry.name] != name {
                problems.append(.notInIndex(name: entry.name, file: name))
            }
        }
        guard problems.isEmpty else { throw .tensors(path: index.path, problems: problems) }
        return files
    }

    /// The error for a folder without safetensors weights: it says what is there instead.
    private static func noWeights(_ folder: URL) -> CheckpointError {
        let contents = (try? FileManager.default.contentsOfDirectory(atPath: folder.path)) ?? []
        if contents.contains(where: { $0.hasPrefix("pytorch_model") && $0.hasSuffix(".bin") }) {
            return .unsupported(
                path: folder.path,
                reason: "the weights are in pytorch_model.bin files, which can run code when read",
                remedy: "save the model as safetensors: in Python, "
                    + "AutoModelForCausalLM.from_pretrained(folder).save_pretrained(folder)")
        }
        return .cannotRead(
            path: folder.path, reason: "found neither \(singleName) nor \(indexName)",
            remedy: "download the weights of the model into this folder")
    }
}

/// `model.safetensors.index.json`.
private struct ShardIndex: Decodable {
    let weightMap: [String: String]

    private enum CodingKeys: String, CodingKey {
        case weightMap = "weight_map"
    }
}
