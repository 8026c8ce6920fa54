public import Foundation
public import PEFTCheckpoints
public import PEFTLayers
public import PEFTModels
public import PEFTQuantization
package import PEFTSharding
public import Torch

/// How a base model is read: what is quantized, and what is computed with.
public struct BaseModelOptions: Sendable, Hashable {
    /// The storage of the linear weights; nil keeps them dense, in the compute dtype.
    public var quantization: QuantizationConfig?
    /// The weights that a folder has in codes already, and how; nil for none: then all but the head are quantized, or nothing is.
    var stored: StoredLayers?
    /// The dtype of activations and of everything that is not quantized.
    public var computeDType: DType

    /// Where the model is, and computes.
    public var device: Device
    /// What the adapter takes out of the weights while they are read; nil for nothing.
    public var start: WeightStart?
    /// The blocks of the files that the model is made of; nil for each once, in order.
    public var blocks: BlockOrder?

    /// Describes how to read a base model.
    ///
    /// - Parameters:
    ///   - quantization: the storage of the linear weights; nil keeps them dense.
    ///   - computeDType: the dtype of activations and of everything that is not quantized.
    ///   - device: where the model is, and computes.
    ///   - start: what the adapter takes out of the weights; nil for an adapter whose start does not depend on them.
    public init(
        quantization: QuantizationConfig?, computeDType: DType, device: Device = .cpu,
        start: WeightStart? = nil
    ) {
        self.quantization = quantization
        self.computeDType = computeDType
        self.device = device
        self.start = start
    }

    /// Weights that are in codes already.
    struct StoredLayers: Hashable {
        var paths: Set<String>
        var storage: QuantizedStorage
    }

    /// These options for a folder whose weights are in codes already, which stay as they are; else the same.
    func adjusted(to source: CheckpointSource) -> BaseModelOptions {
        guard let layers = source.quantizedLayers else { return self }
        return adjusted(to: StoredLayers(paths: layers.paths, storage: layers.storage))
    }

    /// These options for a folder of which no more than the configuration is known.
    ///
    /// - Throws: as ``ModelPlan/init(_:options:)``.
    func adjusted(toConfiguration configuration: Data) throws -> BaseModelOptions {
        guard let found = BaseModelFiles.quantizedStorage(configuration) else { return self }
        let plan = try ModelPlan(
            configuration, options: BaseModelOptions(quantization: nil, computeDType: computeDType))
        let quantized = plan.registry.linears.filter { linear in
            let parts = linear.path.split(separator: ".")
            return linear.parameter == nil && linear.path != plan.registry.headPath
                && !found.skippedModules.contains { parts.contains($0.split(separator: ".")) }
        }
        return adjusted(
            to: StoredLayers(
                paths: Set(quantized.map { $0.path + ".weight" }), storage: found.storage))
    }

    private func adjusted(to layers: StoredLayers) -> BaseModelOptions {
        var options = self
        options.stored = layers
        switch layers.storage {
        case .fourBit(let config): options.quantization = config
        case .int8: options.quantization = nil
        }
        return options
    }

    /// How linear weights are stored, in words; `none` for numbers as they are.
    var storage: String {
        stored?.storage.description ?? quantization?.description ?? "none"
    }

    /// What a model that was read so trains with, in the terms of the rules.
    func precision(_ lossScaling: LossScaling) -> PrecisionRules.Combination {
        let storage: PrecisionRules.Storage =
            switch quantization?.quantType {
            case .nf4: .nf4
            case .fp4: .fp4
            case nil: stored?.storage == .int8 ? .int8 : .dense
            }
        return PrecisionRules.Combination(
            storage: storage, compute: computeDType, lossScaling: lossScaling)
    }
}

/// The first stage: a frozen base model in memory, quantized while it was read.
///
/// Only ``AdaptedModel`` is made from it, so adapters cannot be attached before quantization.
public final class BaseModel {
    /// The network.
    public let model: any CausalLanguageModel
    /// Its parameters and linear layers.
    public let registry: ModuleRegistry
    /// The files that it came from.
    public let files: BaseModelFiles
    /// How it was read.
    public let options: BaseModelOptions

    /// The family, as `config.json` names it: `llama`.
    public let architecture: String
    /// What tells this base from others, by the numbers of its files; see ``BaseFingerprint``.
    public let fingerprint: BaseFingerprint
    /// How it is divided over processes; nil where one process holds it whole.
    package let shards: ModelShards?

    /// Reads a model folder or GGUF file.
    ///
    /// All names and shapes are compared with what the model needs before any weight is read.
    ///
    /// - Parameters:
    ///   - url: a Hugging Face folder or a GGUF file.
    ///   - options: storage and compute dtype.
    /// - Throws: `CheckpointError`, `ModelError` or `QuantizationError` naming what does not fit.
    /// - Memory: the model as stored plus one tensor.
    public convenience init(at url: URL, options: BaseModelOptions) throws {
        try self.init(at: url, options: options, shards: nil)
    }

    /// Reads what falls to this process of a model folder or GGUF file.
    ///
    /// - Parameters:
    ///   - url: a Hugging Face folder or a GGUF file, the same for all processes.
    ///   - options: storage and compute dtype.
    ///   - shards: how the model is divided; nil for one process.
    /// - Throws: as ``init(at:options:)``; `CollectiveError` if another process fails.
    /// - Memory: this process's part as stored, plus its part of one tensor.
    package init(at url: URL, options: BaseModelOptions, shards: ModelShards?) throws {
        files = try BaseModelFiles.open(url)
        let options = options.adjusted(to: files.source)
        self.options = options
        self.shards = shards
        architecture = try ModelRegistry.familyName(files.configuration)
        let plan = try ModelPlan(files.configuration, options: options)
        try files.source.validate(expected: plan.shapesInFiles)
        try shards?.layOut(
            shards?.dividesBase == true ? plan.layout : nil, blocks: plan.blocks,
            embedding: plan.embedding, isHeadTied: plan.isHeadTied)

        let starts =
            try options.start?.starts(
                in: plan.registry, source: files.source, options: options,
                ranks: shards?.ranks ?? RankGroup()) ?? [:]
        let stored = FingerprintingSource(files.source)
        let left = ResidualSource(stored, starts: starts)
        registry = ModuleRegistry()
        registry.starts = starts
        registry.blockOrder = options.blocks
        model = try ModelRegistry.makeModel(
            config: files.configuration,
            Scope(
                registry: registry,
                source: options.source(
                    left, dense: CastingSource(left, dtype: options.computeDType),
                    files: files.source, shards: shards)))
        for (path, shape) in plan.shapesInFiles where plan.shapes[path] == nil {
            // A block that the model has not is a part of what tells its base from others.
            _ = try stored.tensor(at: path, shape: shape)
        }
        try files.source.verifyAllConsumed()
        try shards?.finishLoading()
        try stored.complete(with: shards ?? WholePlacement())
        fingerprint = try files.baseFingerprint(stored.fingerprint)
        registry.keepWithin(shards)
    }
}

extension BaseModelOptions {
    /// What a model is built on: its tensors as these options store them, in this process as far as the shards say.
    ///
    /// - Parameters:
    ///   - stored: the file's numbers, for what is quantized.
    ///   - dense: the same in the compute dtype, for what is not.
    ///   - files: the files, for weights that are in 4 bits already; nil where nothing is read.
    ///   - shards: how the model is divided; laid out.
    /// - Returns: a source that answers with weights in their storage.
    /// - Throws: `QuantizationError` for a block size that there is not.
    func source(
        _ stored: any ParameterSource, dense: any ParameterSource, files: CheckpointSource? = nil,
        shards: ModelShards?
    ) throws(QuantizationError) -> any ParameterSource {
        if let shards, shards.dividesBase {
            // Every copy of a block has shards of its own, which are gathered with it.
            let (stored, dense) = (replicated(stored), replicated(dense))
            let source = try quantized(
                stored, dense: ShardingSource(dense, shards: shards, dtype: computeDType),
                files: files, placement: shards)
            return DeviceSource(source, on: device)
        }
        let source = DeviceSource(
            try quantized(stored, dense: dense, files: files, placement: WholePlacement()),
            on: device)
        return replicated(source, isShared: true)
    }

    /// The source by the names of the model's blocks instead of the files'.
    func replicated(
        _ source: any ParameterSource, isShared: Bool = false
    ) -> any ParameterSource {
        guard let blocks else { return source }
        return ReplicatedSource(source, order: blocks, isShared: isShared)
    }

    /// The name in the files of a tensor that a source asks for which has the names of the model's blocks.
    private func nameInFiles(_ path: String, _ placement: any TensorPlacement) -> String {
        guard let blocks, !(placement is WholePlacement) else { return path }
        return blocks.nameInFiles(path)
    }

    /// The source that stores linear weights as these options say; without files they are only planned.
    func quantized(
        _ stored: any ParameterSource, dense: any ParameterSource, files: CheckpointSource? = nil,
        placement: any TensorPlacement
    ) throws(QuantizationError) -> any ParameterSource {
        if let layers = self.stored {
            if let files {
                return StoredWeightSource(
                    { path, shape in
                        try files.quantizedParts(of: nameInFiles(path, placement), shape: shape)
                    }, samples: stored, dense: dense,
                    placement: placement)
            }
            guard let quantization else {
                return StoredWeightSource(
                    { path, shape in
                        let isStored = layers.paths.contains(nameInFiles(path, placement))
                        return try isStored ? layers.plannedInt8(at: path, shape, stored) : nil
                    }, samples: stored, dense: dense, placement: placement)
            }
            return try QuantizingSource(
                stored, dense: dense, config: quantization,
                isQuantized: { layers.paths.contains(nameInFiles($0, placement)) },
                placement: placement)
        }
        guard let quantization else { return dense }
        return try QuantizingSource(
            stored, dense: dense, config: quantization, placement: placement)
    }
}

extension BaseModelOptions.StoredLayers {
    /// A weight in 8 bits that is only planned: the source notes its shape.
    fileprivate func plannedInt8(
        at path: String, _ shape: [Int], _ source: any ParameterSource
    ) throws -> QuantizedParts {
        _ = try source.elements(0..<0, at: path, shape: shape)
        func none() throws -> Tensor { try Tensor.empty([0]) }
        return .int8(
            Int8Parts(
                shape: shape, sourceDType: .float32, codes: { _ in try none() }, scales: none))
    }
}

extension ModuleRegistry {
    /// Says who brings tensors of the base into memory outside of a pass.
    func keepWithin(_ shards: ModelShards?) {
        guard let shards, shards.dividesBase else { return }
        isDivided { path throws(TorchError) in try shards.bringIntoMemory(path) }
    }
}
