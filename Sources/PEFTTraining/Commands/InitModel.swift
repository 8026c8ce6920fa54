import Foundation
import PEFTCheckpoints
import PEFTLayers
import PEFTModels
import PEFTSharding
public import PEFTTokenizers
import Torch

/// Writes models of random numbers: what `peft init-model` does.
public enum InitModel {
    /// What was written.
    public struct Summary: Sendable, Equatable {
        /// Elements of all tensors.
        public let numParameters: Int
        /// Bytes of all tensors.
        public let sizeBytes: Int
        /// The weight files, in order.
        public let files: [String]

        /// Describes what was written.
        public init(numParameters: Int, sizeBytes: Int, files: [String]) {
            self.numParameters = numParameters
            self.sizeBytes = sizeBytes
            self.files = files
        }

        /// The values as JSON.
        public var json: JSONObject {
            [
                "num_parameters": .int(numParameters), "size_bytes": .int(sizeBytes),
                "files": .array(files.map { .string($0) }),
            ]
        }
    }

    /// Writes a Hugging Face folder as transformers initializes one: normal numbers for matrices, norms that multiply by
    /// one, zeros for biases.
    ///
    /// The row of `pad_token_id`, if there is one, is drawn like the others.
    ///
    /// The numbers of a tensor depend on the seed and its name alone. `config.json` comes last, so a folder that is not whole is
    /// no model.
    ///
    /// - Parameter options: the configuration, the folder, the seed.
    /// - Returns: what was written.
    /// - Throws: `ModelError` if the configuration is not that of a known family; `CheckpointError` if there is a model already, or
    ///   the disk refuses.
    /// - Memory: one tensor in float32 and once more as it is written.
    /// - Source: transformers 5.23 `modeling_utils.py:PreTrainedModel._init_weights`, `save_pretrained`.
    public static func run(_ options: InitModelOptions) throws -> Summary {
        let config = try MappedFile(URL(filePath: options.config)).contents()
        let folder = URL(filePath: options.outputDir)
        let plan = try ModelPlan(
            config, options: BaseModelOptions(quantization: nil, computeDType: .float32))
        let files = ModelRegistry.fileConventions(config)
        let dtype = options.dtype.torch
        let random = Source(
            seed: UInt64(options.seed),
            standardDeviation: try initializerRange(config, path: options.config),
            normWeight: files.normWeight, dtype: dtype)
        let tensors = plan.layout.tensors.map { tensor in
            let isTransposed = files.isTransposed(tensor.path, shape: tensor.shape)
            let shape = isTransposed ? tensor.shape.reversed() : tensor.shape
            return SafetensorsTensor(name: tensor.path, shape: shape, dtype: dtype) {
                try random.tensor(tensor.path, shape)
            }
        }
        let numParameters = plan.layout.tensors.reduce(0) { $0 + $1.numElements }
        let configuration = try configuration(config, dtype: dtype, path: options.config)
        try prepare(folder, isReplaced: options.overwrite)
        let written = try ShardedSafetensors.write(
            tensors, numParameters: numParameters,
            maxShardBytes: options.maxShardMegabytes * 1_000_000, to: folder)
        try AtomicFile.write(
            configuration, to: folder.appending(path: "config.json"))
        return Summary(
            numParameters: numParameters, sizeBytes: written.sizeBytes, files: written.files)
    }

    /// Makes the folder; removes a model that is to be replaced, its configuration first.
    private static func prepare(_ folder: URL, isReplaced: Bool) throws {
        let manager = FileManager.default
        let names = ((try? manager.contentsOfDirectory(atPath: folder.path)) ?? []).filter {
            $0 == "config.json" || $0 == ShardedSafetensors.indexName
                || $0.hasSuffix(".safetensors")
        }.sorted()
        guard names.isEmpty || isReplaced else {
            throw CheckpointError.cannotWrite(
                path: folder.path, reason: "there is a model already (\(names[0]))",
                remedy: "give --overwrite to replace it, or another --output-dir")
        }
        for name in names { try manager.removeItem(at: folder.appending(path: name)) }
        do {
            try manager.createDirectory(at: folder, withIntermediateDirectories: true)
        } catch {
            throw CheckpointError.cannotWrite(
                path: folder.path, reason: "the folder cannot be made",
                remedy: "give a folder on a disk that can be written")
        }
    }

    // MARK: - Configuration

    private struct Keys: Decodable {
        let initializerRange: Double?

        private enum CodingKeys: String, CodingKey {
            case initializerRange = "initializer_range"
        }
    }

    private static func initializerRange(_ config: Data, path: String) throws -> Double {
        do {
            return try JSONDecoder().decode(Keys.self, from: config).initializerRange ?? 0.02
        } catch {
            throw CheckpointError.malformed(
                path: path, reason: "initializer_range: expected a number",
                remedy: "give the standard deviation of a new model's numbers, or leave it out")
        }
    }

    /// The configuration with the element type that was written.
    private static func configuration(_ config: Data, dtype: DType, path: String) throws -> Data {
        guard
            var object = try JSONValue(parsing: String(decoding: config, as: UTF8.self))
                .objectValue
        else {
            throw CheckpointError.malformed(
                path: path, reason: "not a JSON object", remedy: "give the config.json of a model")
        }
        object["torch_dtype"] = .string(dtype.name)
        return Data((JSONValue.object(object).serialized() + "\n").utf8)
    }

    /// The numbers of each tensor.
    private struct Source {
        let seed: UInt64
        let standardDeviation: Double
        let normWeight: Double
        let dtype: DType

        func tensor(_ name: String, _ shape: [Int]) throws -> Tensor {
            if shape.count == 1 {
                return try .full(shape, name.hasSuffix(".bias") ? 0 : normWeight, dtype: dtype)
            }
            return try RandomSource(
                seed: seed, standardDeviation: standardDeviation, dtype: dtype
            ).tensor(at: name, shape: shape)
        }
    }
}
