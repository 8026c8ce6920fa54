public import Foundation
public import Torch

/// An adapter folder of PEFT: `adapter_config.json`, `adapter_model.safetensors` and a `README.md`.
///
/// Tensors are named by their path in the base model, such as "model.layers.0.self_attn.q_proj.lora_A.weight";
/// in the file each name has `base_model.model.` before it. What the configuration means is the adapter's matter.
public struct AdapterFolder {
    /// The folder.
    public let url: URL
    /// The bytes of `adapter_config.json`.
    public let configuration: Data
    /// The stored tensors, under the names of the file.
    public let weights: SafetensorsFile

    /// The file names, as PEFT has them.
    static let configurationName = "adapter_config.json"
    static let weightsName = "adapter_model.safetensors"
    static let cardName = "README.md"

    /// What stands before each tensor's path in the file.
    private static let prefix = "base_model.model."

    // MARK: - Reading

    /// Opens the folder at `url`; tensors are read later.
    ///
    /// - Throws: `CheckpointError` if there is no adapter, or one in another format.
    public static func read(_ url: URL) throws(CheckpointError) -> AdapterFolder {
        let contents = try FolderContents(url)
        guard contents.names.contains(configurationName) else {
            throw .cannotRead(
                path: url.path, reason: "found no \(configurationName)",
                remedy: "give the folder of an adapter as PEFT or `peft train` writes it")
        }
        guard contents.names.contains(weightsName) else {
            if contents.names.contains("adapter_model.bin") {
                throw .unsupported(
                    path: url.path,
                    reason: "the weights are in adapter_model.bin, which can run code when read",
                    remedy: "save the adapter as safetensors: in Python, "
                        + "PeftModel.from_pretrained(base, folder).save_pretrained(folder)")
            }
            throw .cannotRead(
                path: url.path, reason: "found no \(weightsName)",
                remedy: "copy or download the adapter's weights into this folder")
        }
        let configuration = try MappedFile(url.appending(path: configurationName))
        return AdapterFolder(
            url: url, configuration: Data(configuration.bytes),
            weights: try SafetensorsFile(url.appending(path: weightsName)))
    }

    /// Compares the stored tensors with those that an adapter needs, reading no data.
    ///
    /// - Parameter expected: the shape of every tensor by its path in the base model.
    /// - Throws: `CheckpointError.tensors` with every missing, mis-shaped, mis-typed and unexpected tensor, under
    ///   the names of the file.
    public func validate(expected: [String: [Int]]) throws(CheckpointError) {
        var problems: [TensorProblem] = []
        var known: Set<String> = []
        for (path, shape) in expected.sorted(by: { $0.key < $1.key }) {
            let name = Self.prefix + path
            known.insert(name)
            guard let entry = weights.entry(name) else {
                problems.append(.missing(name: name, expected: shape))
                continue
            }
            if entry.shape != shape {
                problems.append(.shape(name: name, expected: shape, found: entry.shape))
            } else if entry.dtype.dtype?.isFloatingPoint != true {
                problems.append(
                    .dtype(name: name, expected: "F32, F16 or BF16", found: entry.dtype.rawValue))
            }
        }
        for entry in weights.entries.sorted(by: { $0.name < $1.name })
        where !known.contains(entry.name) {
            problems.append(.unexpected(name: entry.name, shape: entry.shape))
        }
        guard problems.isEmpty else {
            throw .tensors(path: weights.file.url.path, problems: problems)
        }
    }

    /// Reads the tensors that an adapter needs.
    ///
    /// - Parameter expected: the shape of every tensor by its path in the base model.
    /// - Returns: the tensors by path, in the element types of the file; copies, so training may change them.
    /// - Throws: what `validate(expected:)` throws.
    public func tensors(expected: [String: [Int]]) throws -> [String: Tensor] {
        try validate(expected: expected)
        var result: [String: Tensor] = [:]
        for path in expected.keys {
            guard let entry = weights.entry(Self.prefix + path) else { continue }
            result[path] = try weights.tensor(entry).clone()
        }
        return result
    }

    // MARK: - Writing

    /// Writes an adapter: the same input gives the same bytes, and an adapter that is there stays until the new one is
    /// complete on the disk and compared with `tensors`.
    ///
    /// A `README.md` that is there stays as it is.
    ///
    /// - Parameters:
    ///   - configuration: the bytes of `adapter_config.json`.
    ///   - tensors: the adapter's tensors by their path in the base model.
    ///   - url: the folder; it is created if it is missing.
    /// - Throws: `CheckpointError.cannotWrite`; `TorchError`.
    public static func write(
        configuration: Data, tensors: [String: Tensor], to url: URL
    ) throws {
        try FolderContents.create(url)
        let entries = tensors.sorted { $0.key < $1.key }
            .map { SafetensorsTensor(name: prefix + $0.key, $0.value) }
        let weights = try SafetensorsWriter.prepare(
            entries, metadata: SafetensorsWriter.metadataOfTorch,
            for: url.appending(path: weightsName))
        try SafetensorsWriter.verify(entries, at: weights.temporary)
        let config = try AtomicFile(replacing: url.appending(path: configurationName))
        try config.append([UInt8](configuration))
        try config.close()
        let card = url.appending(path: cardName)
        if !FileManager.default.fileExists(atPath: card.path) {
            try AtomicFile.write(Data(modelCard(configuration).utf8), to: card)
        }
        try weights.commit()
        try config.commit()
        try SafetensorsWriter.verify(entries, at: weights.url)
    }

    /// The `README.md` that model hubs expect: the base model and the method, from the configuration.
    private static func modelCard(_ configuration: Data) -> String {
        let keys = try? JSONDecoder().decode(CardKeys.self, from: configuration)
        let base = keys?.baseModelNameOrPath ?? ""
        let quoted = base.replacing("'", with: "''")
        return """
            ---
            base_model: '\(quoted)'
            library_name: peft
            pipeline_tag: text-generation
            tags:
            - 'base_model:adapter:\(quoted)'
            - \((keys?.peftType ?? "adapter").lowercased())
            ---

            # Adapter\(base.isEmpty ? "" : " for \(base)")

            Trained with swift-peft. In Python: `PeftModel.from_pretrained(base_model, folder)`.

            """
    }

    private struct CardKeys: Decodable {
        let baseModelNameOrPath: String?
        let peftType: String?

        private enum CodingKeys: String, CodingKey {
            case baseModelNameOrPath = "base_model_name_or_path"
            case peftType = "peft_type"
        }
    }
}
