public import Foundation
public import PEFTAdapters

/// What a model folder, GGUF file, adapter folder or checkpoint folder holds; read from headers alone.
public struct PathInspection: Codable, Hashable, Sendable {
    /// What is at the path.
    public enum Kind: String, Codable, Sendable {
        /// A Hugging Face folder with weights.
        case model
        /// A GGUF file.
        case gguf
        /// A safetensors file.
        case safetensors
        /// An adapter folder.
        case adapter
        /// A training checkpoint.
        case checkpoint
    }

    /// One file of a folder.
    public struct File: Codable, Hashable, Sendable {
        /// The name; of a folder, with "/" at the end.
        public let name: String
        /// The size; of a folder, of all that is in it.
        public let sizeBytes: Int
    }

    /// One stored tensor.
    public struct TensorSummary: Codable, Hashable, Sendable {
        /// The name in the file.
        public let name: String
        /// The element type or quantization: "BF16", "Q4_1".
        public let dtype: String
        /// The extents, outermost first.
        public let shape: [Int]
        /// The size in the file.
        public let sizeBytes: Int
        /// The file that holds it.
        public let file: String
    }

    /// The path.
    public let path: String
    /// What is there.
    public let kind: Kind
    /// The files in the folder, or the file itself.
    public let files: [File]
    /// The tensors in the order of their names.
    public let tensors: [TensorSummary]
    /// The elements of all tensors together.
    public let numElements: Int
    /// The JSON documents beside the weights by file name; of a GGUF file, its configuration as `config.json`.
    public let documents: [String: ConfigValue]
    /// The metadata of the weight files; long arrays by their length.
    public let metadata: [String: ConfigValue]

    /// The size of all files.
    public var sizeBytes: Int { files.reduce(0) { $0 + $1.sizeBytes } }

    /// Looks at `url`.
    ///
    /// - Throws: `CheckpointError` if nothing known is there, or a file of it is damaged.
    public init(_ url: URL) throws(CheckpointError) {
        var isFolder: ObjCBool = false
        guard FileManager.default.fileExists(atPath: url.path, isDirectory: &isFolder) else {
            throw .cannotRead(
                path: url.path, reason: "no such file or folder", remedy: "check the path")
        }
        if isFolder.boolValue {
            try self.init(folder: url)
        } else if url.pathExtension == "safetensors" {
            try self.init(safetensors: url)
        } else {
            try self.init(gguf: url)
        }
    }

    private init(
        _ url: URL, _ kind: Kind, files: [File], tensors: [TensorSummary],
        documents: [String: ConfigValue], metadata: [String: ConfigValue]
    ) {
        path = url.path
        self.kind = kind
        self.files = files
        self.tensors = tensors.sorted { ($0.name, $0.file) < ($1.name, $1.file) }
        numElements = tensors.reduce(0) { $0 + $1.shape.reduce(1, *) }
        self.documents = documents
        self.metadata = metadata
    }

    private init(safetensors url: URL) throws(CheckpointError) {
        let file = try SafetensorsFile(url)
        self.init(
            url, .safetensors,
            files: [File(name: url.lastPathComponent, sizeBytes: file.file.sizeBytes)],
            tensors: Self.summaries(file), documents: [:],
            metadata: (file.metadata ?? [:]).mapValues { .string($0) })
    }

    private init(gguf url: URL) throws(CheckpointError) {
        let file = try GGUFFile(url)
        var documents: [String: ConfigValue] = [:]
        if let configuration = try? GGUFArchitecture.of(file).configuration(file) {
            documents["config.json"] = try? JSONDecoder().decode(
                ConfigValue.self, from: configuration)
        }
        self.init(
            url, .gguf, files: [File(name: url.lastPathComponent, sizeBytes: file.file.sizeBytes)],
            tensors: file.tensors.map {
                TensorSummary(
                    name: $0.name, dtype: $0.type.name, shape: $0.shape,
                    sizeBytes: $0.byteRange.count, file: url.lastPathComponent)
            },
            documents: documents, metadata: file.metadata.values.mapValues(Self.summary))
    }

    private init(folder url: URL) throws(CheckpointError) {
        let names = try FolderContents(url).names
        let kind = try Self.kind(of: url, names: names)
        var tensors: [TensorSummary] = []
        var metadata: [String: ConfigValue] = [:]
        if kind == .model { _ = try ShardedSafetensors(folder: url) }
        for name in names where name.hasSuffix(".safetensors") {
            let file = try SafetensorsFile(url.appending(path: name))
            tensors += Self.summaries(file)
            for (key, value) in file.metadata ?? [:] { metadata[key] = .string(value) }
        }
        var documents: [String: ConfigValue] = [:]
        for name in names where Self.isDocument(name) {
            let data = try MappedFile(url.appending(path: name)).contents()
            guard let document = try? JSONDecoder().decode(ConfigValue.self, from: data) else {
                throw .malformed(
                    path: url.appending(path: name).path, reason: "not valid JSON",
                    remedy: "the file is damaged: copy or download it again")
            }
            documents[name] = document
        }
        self.init(
            url, kind, files: names.map { Self.file($0, in: url) }, tensors: tensors,
            documents: documents, metadata: metadata)
    }

    // MARK: - Parts

    private static func kind(of url: URL, names: [String]) throws(CheckpointError) -> Kind {
        if CheckpointFolder.step(ofName: url.lastPathComponent) != nil { return .checkpoint }
        if names.contains(AdapterFolder.configurationName) { return .adapter }
        if names.contains("config.json") { return .model }
        var remedy = "give a model folder, a GGUF file, an adapter folder or a checkpoint folder"
        if let newest = CheckpointFolder.list(in: url).last {
            remedy = "it holds checkpoints: give \(newest.url.path)"
        }
        throw .cannotRead(
            path: url.path,
            reason: "found neither config.json nor \(AdapterFolder.configurationName)",
            remedy: remedy)
    }

    private static func summaries(_ file: SafetensorsFile) -> [TensorSummary] {
        file.entries.map {
            TensorSummary(
                name: $0.name, dtype: $0.dtype.rawValue, shape: $0.shape,
                sizeBytes: $0.byteRange.count, file: file.file.url.lastPathComponent)
        }
    }

    /// JSON files that describe; the tokenizer's and the index are data.
    private static func isDocument(_ name: String) -> Bool {
        name.hasSuffix(".json") && !name.hasSuffix(".index.json")
            && !["tokenizer.json", "vocab.json", "tokenizer_config.json"].contains(name)
    }

    private static func file(_ name: String, in folder: URL) -> File {
        let url = folder.appending(path: name)
        var isFolder: ObjCBool = false
        _ = FileManager.default.fileExists(atPath: url.path, isDirectory: &isFolder)
        guard isFolder.boolValue else {
            let values = try? FileManager.default.attributesOfItem(atPath: url.path)
            return File(name: name, sizeBytes: (values?[.size] as? NSNumber)?.intValue ?? 0)
        }
        let names = (try? FileManager.default.contentsOfDirectory(atPath: url.path)) ?? []
        let size = names.reduce(0) { $0 + Self.file($1, in: url).sizeBytes }
        return File(name: name + "/", sizeBytes: size)
    }

    private static func summary(_ value: GGUFValue) -> ConfigValue {
        switch value {
        case .unsigned(let value): Int(exactly: value).map { .int($0) } ?? .string("\(value)")
        case .signed(let value): .int(Int(value))
        case .float32(let value): .double(Double("\(value)") ?? Double(value))
        case .float64(let value): .double(value)
        case .bool(let value): .bool(value)
        case .string(let value): .string(value)
        case .array(let array): summary(array)
        }
    }

    /// The longest array that is shown element by element.
    private static let numElementsShown = 16

    private static func summary(_ array: GGUFArray) -> ConfigValue {
        guard array.count <= numElementsShown else { return .string("\(array.count) elements") }
        return switch array {
        case .unsigned(let values): .array(values.map { summary(.unsigned($0)) })
        case .signed(let values): .array(values.map { summary(.signed($0)) })
        case .float32(let values): .array(values.map { summary(.float32($0)) })
        case .float64(let values): .array(values.map { summary(.float64($0)) })
        case .bool(let values): .array(values.map { summary(.bool($0)) })
        case .string(let values): .array(values.map { summary(.string($0)) })
        case .array(let values): .array(values.map { summary($0) })
        }
    }
}
