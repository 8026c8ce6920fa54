public import Foundation
public import Torch

/// An adapter folder of PEFT: `adapter_config.json`, `adapter_model.safetensors` and a `README.md`.
///
/// Tensors have the names of the file, such as "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight". What the
/// configuration means is the adapter's matter.
public struct AdapterFolder {
    /// The folder.
    public let url: URL
    /// The bytes of `adapter_config.json`.
    public let configuration: Data
    /// The stored tensors, under the names of the file.
    public let weights: SafetensorsFile

    /// The file names, as PEFT has them.
    static let configurationName = "adapter_config.json"
    package static let weightsName = "adapter_model.safetensors"
    static let cardName = "README.md"

    /// The key of the base's fingerprint under `__metadata__`; PEFT passes over it.
    static let fingerprintKey = "swift_peft_base_fingerprint"

    /// The key of how the base's linear weights were stored in training; PEFT passes over it.
    static let baseStorageKey = "swift_peft_base_storage"

    /// How the linear weights of the base were stored in training, such as `nf4, block 64, double quantized`; `none` for numbers as
    /// they are, nil in files of PEFT.
    public var baseStorage: String? { weights.metadata?[Self.baseStorageKey] }

    /// The text of the fingerprint of the base that the adapter was trained on; nil in files of PEFT.
    public var baseFingerprint: String? { weights.metadata?[Self.fingerprintKey] }

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
            url: url, configuration: configuration.contents(),
            weights: try SafetensorsFile(url.appending(path: weightsName)))
    }

    /// Reads the tensors that an adapter needs.
    ///
    /// - Parameters:
    ///   - expected: the shape of every tensor by its name in the file.
    ///   - ignored: the shapes of tensors that the file may hold besides, such as copies of frozen weights.
    /// - Returns: the needed tensors by name, in the element types of the file; copies, so training may change them.
    /// - Throws: `CheckpointError.tensors` with every missing, mis-shaped, mis-typed and unexpected tensor.
    public func tensors(
        expected: [String: [Int]], ignoring ignored: [String: [Int]] = [:]
    ) throws -> [String: Tensor] {
        try weights.tensors(expected: expected, ignoring: ignored)
    }

    // MARK: - Writing

    /// Writes an adapter: the same input gives the same bytes, and an adapter that is there stays until the new one is
    /// complete on the disk and compared with `tensors`.
    ///
    /// A `README.md` that is there stays as it is.
    ///
    /// - Parameters:
    ///   - configuration: the bytes of `adapter_config.json`.
    ///   - tensors: the adapter's tensors under their names in the file, in any order; each is asked for when it is written and again
    ///     when it is compared.
    ///   - base: the fingerprint of the base that they were trained on; nil leaves it out.
    ///   - baseStorage: how its linear weights were stored then; nil leaves it out.
    ///   - url: the folder; it is created if it is missing.
    /// - Throws: `CheckpointError.cannotWrite`; `TorchError`.
    public static func write(
        configuration: Data, tensors: [SafetensorsTensor], base: BaseFingerprint? = nil,
        baseStorage: String? = nil, to url: URL
    ) throws {
        try FolderContents.create(url)
        let entries = tensors.sorted { $0.name < $1.name }
        var metadata = SafetensorsWriter.metadataOfTorch
        metadata[fingerprintKey] = base?.description
        metadata[baseStorageKey] = baseStorage
        let weights = try SafetensorsWriter.prepare(
            entries, metadata: metadata, for: url.appending(path: weightsName))
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

    /// Writes an adapter whose tensors are in memory; see ``write(configuration:tensors:base:baseStorage:to:)``.
    public static func write(
        configuration: Data, tensors: [String: Tensor], base: BaseFingerprint? = nil, to url: URL
    ) throws {
        try write(
            configuration: configuration,
            tensors: tensors.map { SafetensorsTensor(name: $0.key, $0.value) }, base: base, to: url)
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
