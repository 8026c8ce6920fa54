public import Foundation
import PEFTModels
package import PEFTQuantization

/// A base model on disk: a Hugging Face folder or a GGUF file, opened but not yet read.
public struct BaseModelFiles {
    /// How the model is stored.
    public enum Format: String, Codable, Sendable {
        /// A folder with `config.json` and safetensors files.
        case huggingFace = "Hugging Face folder"
        /// A GGUF file.
        case gguf = "GGUF file"
    }

    /// Where the tokenizer is.
    public enum TokenizerLocation {
        /// In a folder with `tokenizer.json`.
        case folder(URL)
        /// In the metadata of a GGUF file, under "tokenizer.ggml.".
        case gguf(GGUFMetadata)
    }

    /// The folder or file.
    public let url: URL
    /// How the model is stored.
    public let format: Format
    /// A `config.json` in Hugging Face's keys; of a GGUF file, made from its metadata.
    public let configuration: Data
    /// The parameters under Hugging Face's names.
    public let source: CheckpointSource
    /// Where the tokenizer is; nil if there is none.
    public let tokenizer: TokenizerLocation?
    /// The size of all weight files.
    public let sizeBytes: Int

    /// Opens the model at `url` by what is there.
    ///
    /// - Throws: `CheckpointError` if there is no model, or one that cannot be read here.
    public static func open(_ url: URL) throws -> BaseModelFiles {
        var isFolder: ObjCBool = false
        guard FileManager.default.fileExists(atPath: url.path, isDirectory: &isFolder) else {
            throw CheckpointError.cannotRead(
                path: url.path, reason: "no such file or folder",
                remedy: "give a GGUF file, or a folder with config.json and safetensors files")
        }
        return isFolder.boolValue ? try openFolder(url) : try openFile(url)
    }

    private static func openFile(_ url: URL) throws -> BaseModelFiles {
        guard url.pathExtension != "safetensors" else {
            throw CheckpointError.unsupported(
                path: url.path, reason: "a safetensors file alone is not a model",
                remedy: "give the folder that holds it, with config.json beside it")
        }
        let file = try GGUFFile(url)
        let architecture = try GGUFArchitecture.of(file)
        return BaseModelFiles(
            url: url, format: .gguf, configuration: try architecture.configuration(file),
            source: CheckpointSource(try GGUFStore(file, architecture: architecture)),
            tokenizer: file.metadata.string("tokenizer.ggml.model") == nil
                ? nil : .gguf(file.metadata),
            sizeBytes: file.file.sizeBytes)
    }

    private static func openFolder(_ url: URL) throws -> BaseModelFiles {
        let names = try FolderContents(url).names
        guard names.contains("config.json") else { throw notAModel(url, names: names) }
        let configuration = try MappedFile(url.appending(path: "config.json")).contents()
        let path = url.appending(path: "config.json").path
        let keys = try checkConfiguration(configuration, path: path)
        let weights = try ShardedSafetensors(folder: url)
        let source = CheckpointSource(
            try HuggingFaceStore(
                weights, conventions: ModelRegistry.fileConventions(configuration)))
        let (said, found) = (
            keys.quantizationConfig?.numBits, source.quantizedLayers?.storage.numBits
        )
        guard said == found else {
            throw CheckpointError.malformed(
                path: path,
                reason: found.map {
                    "there are weights in \($0) bits, which it does not say"
                } ?? "it says that weights are in \(said ?? 0) bits, but none is",
                remedy: "the files do not belong together: copy or download the folder again")
        }
        return BaseModelFiles(
            url: url, format: .huggingFace, configuration: configuration, source: source,
            tokenizer: names.contains("tokenizer.json") ? .folder(url) : nil,
            sizeBytes: weights.sizeBytes)
    }

    /// Refuses a configuration that is not JSON, or of weights that are quantized in a way that is not read.
    private static func checkConfiguration(
        _ data: Data, path: String
    ) throws(CheckpointError) -> ConfigurationKeys {
        let keys: ConfigurationKeys
        do {
            keys = try JSONDecoder().decode(ConfigurationKeys.self, from: data)
        } catch {
            throw .malformed(
                path: path, reason: "not a JSON object that describes a model",
                remedy: "the file is damaged: copy or download it again")
        }
        if let quantization = keys.quantizationConfig, !quantization.isRead {
            throw .unsupported(
                path: path,
                reason: "the weights are quantized already "
                    + "(\(quantization.quantMethod ?? "quantization_config is there"))",
                remedy: "take the model in bfloat16, float16 or float32: it is quantized while "
                    + "it is read")
        }
        return keys
    }

    /// How a `config.json` says that linear weights are stored, and which are not; nil for numbers.
    ///
    /// - Parameter configuration: a `config.json`; the size of blocks is not in it and taken for the usual one.
    /// - Returns: the storage, and modules that stay as they are, by parts of their paths.
    package static func quantizedStorage(
        _ configuration: Data
    ) -> (storage: QuantizedStorage, skippedModules: [String])? {
        let keys = try? JSONDecoder().decode(ConfigurationKeys.self, from: configuration)
        guard let quantization = keys?.quantizationConfig, quantization.isRead else { return nil }
        let skipped = quantization.skippedModules ?? QuantizingSource.defaultSkippedModules
        guard quantization.numBits == 4 else { return (.int8, skipped) }
        let config = QuantizationConfig(
            quantType: quantization.quantType.flatMap { QuantType(rawValue: $0) } ?? .fp4,
            usesDoubleQuantization: quantization.usesDoubleQuant ?? false)
        return (.fourBit(config), skipped)
    }

    /// The fingerprint of the base whose numbers these files hold, perhaps in 4 bits.
    ///
    /// A folder that `peft quantize` wrote says what it was made of, and what its own numbers are: so an adapter fits both.
    ///
    /// - Parameter found: the fingerprint of the files' numbers.
    /// - Returns: `found`, or that of the base that was quantized.
    /// - Throws: `CheckpointError.malformed` if the files' numbers are not those that were written.
    public func baseFingerprint(_ found: BaseFingerprint) throws(CheckpointError) -> BaseFingerprint
    {
        guard
            let keys = try? JSONDecoder().decode(ConfigurationKeys.self, from: configuration),
            let base = keys.baseFingerprint.flatMap({ BaseFingerprint($0) }),
            let own = keys.fingerprint
        else { return found }
        guard own == found.description else {
            throw .malformed(
                path: url.path,
                reason: "its numbers are not those that peft quantize wrote: expected the "
                    + "fingerprint \(own), found \(found)",
                remedy: "files of another model are among them: quantize the base again")
        }
        return base
    }

    /// The keys of `config.json` for ``baseFingerprint(_:)``; transformers passes over them.
    package static let baseFingerprintKey = "swift_peft_base_fingerprint"
    package static let fingerprintKey = "swift_peft_fingerprint"

    /// The error for a folder without a model: what was looked for, and what is there instead.
    private static func notAModel(_ url: URL, names: [String]) -> CheckpointError {
        var remedy = "looked for config.json with safetensors files beside it"
        if names.contains(AdapterFolder.configurationName) {
            remedy = "it holds an adapter: give it as the adapter, and its base as the model"
        } else if let gguf = names.first(where: { $0.hasSuffix(".gguf") }) {
            remedy = "it holds a GGUF file: give \(url.appending(path: gguf).path)"
        }
        return .cannotRead(path: url.path, reason: "found no config.json", remedy: remedy)
    }

    private struct ConfigurationKeys: Decodable {
        let quantizationConfig: Quantization?
        let baseFingerprint: String?
        let fingerprint: String?

        struct Quantization: Decodable {
            let quantMethod: String?
            let loadIn4bit: Bool?
            let loadIn8bit: Bool?
            let quantType: String?
            let usesDoubleQuant: Bool?
            let skippedModules: [String]?

            /// Whether such weights are read: those of bitsandbytes.
            var isRead: Bool { quantMethod == "bitsandbytes" && numBits != nil }

            /// The bits of a code.
            var numBits: Int? { loadIn4bit == true ? 4 : loadIn8bit == true ? 8 : nil }

            private enum CodingKeys: String, CodingKey {
                case quantMethod = "quant_method"
                case loadIn4bit = "load_in_4bit"
                case loadIn8bit = "load_in_8bit"
                case quantType = "bnb_4bit_quant_type"
                case usesDoubleQuant = "bnb_4bit_use_double_quant"
                case skippedModules = "llm_int8_skip_modules"
            }
        }

        private enum CodingKeys: String, CodingKey {
            case quantizationConfig = "quantization_config"
            case baseFingerprint = "swift_peft_base_fingerprint"
            case fingerprint = "swift_peft_fingerprint"
        }
    }
}

extension QuantizedStorage {
    /// The bits of a code.
    fileprivate var numBits: Int {
        switch self {
        case .fourBit: 4
        case .int8: 8
        }
    }
}
