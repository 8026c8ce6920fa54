public import Foundation
public import PEFTAdapters
import PEFTCheckpoints
public import PEFTLayers
import PEFTSharding
import Torch

/// The second stage: a base model with its adapter attached; the trainable set is fixed from here on.
public final class AdaptedModel {
    /// The base, now with adapters on its linears.
    public let base: BaseModel
    /// The attached adapter.
    public let adapter: AdapterSet
    /// Whether the adapter is trained; a frozen one serves inference.
    public let isTrainable: Bool

    /// Attaches a new adapter.
    ///
    /// - Parameters:
    ///   - base: a base model without adapter.
    ///   - config: targets, rank, scaling.
    ///   - seed: of the initialization.
    /// - Throws: `AdapterError` naming every pattern that matches nothing; ``TrainingError/otherStart(adapter:)``;
    ///   ``TrainingError/startNeedsRows(initialization:)``.
    public init(_ base: BaseModel, adapter config: any AdapterConfig, seed: UInt64) throws {
        if let start = (config as? LoRAConfig)?.initLoraWeights, start.readsRows {
            throw TrainingError.startNeedsRows(initialization: start.name)
        }
        self.base = base
        isTrainable = true
        try Self.requireStart(WeightStart(config, seed: seed), of: base, adapter: "the adapter")
        adapter = try Self.attach(config, to: base, seed: seed, isTrainable: true)
    }

    /// Attaches a new adapter whose start was computed, for its files: nothing is taken out of this base.
    init(
        _ base: BaseModel, adapter config: LoRAConfig, starts: [String: LowRankStart],
        seed: UInt64
    ) throws {
        self.base = base
        isTrainable = true
        base.registry.starts = starts
        adapter = try Self.attach(config, to: base, seed: seed, isTrainable: true)
    }

    /// Attaches the adapter of a folder; it is trained unless `isTrainable` says otherwise.
    ///
    /// PEFT's default is the other way round: `PeftModel.from_pretrained` without `is_trainable=True` gives a model that
    /// nothing can train, and whose training then fails or does nothing.
    ///
    /// - Parameters:
    ///   - base: a base model without adapter, the one that the adapter was trained on.
    ///   - folder: as PEFT or ``FineTune`` writes it.
    ///   - seed: of what the folder's tensors then replace.
    ///   - isTrainable: false freezes the adapter, for inference.
    ///   - ignoresBaseFingerprint: whether an adapter that was trained on another base is taken all the same.
    /// - Throws: ``Diagnosis`` with ``DiagnosisCode/otherBase``; `CheckpointError` or `AdapterError` naming everything that
    ///   does not fit.
    public init(
        _ base: BaseModel, loading folder: URL, seed: UInt64 = 0, isTrainable: Bool = true,
        ignoresBaseFingerprint: Bool = false
    ) throws {
        self.base = base
        self.isTrainable = isTrainable
        try Self.requireStart(
            WeightStart(loading: folder), of: base, adapter: folder.path)
        let files = try AdapterFolder.read(folder)
        let config = try AdapterMethods.readConfig(adapterConfigJSON: files.configuration)
        if !ignoresBaseFingerprint {
            try files.requireBase(
                base.fingerprint, of: base.files.url.path, name: config.baseModelNameOrPath)
        }
        adapter = try Self.attach(config, to: base, seed: seed, isTrainable: isTrainable)
        try adapter.read(from: files)
    }

    /// Refuses a base from which something else was taken than the adapter is the start of.
    private static func requireStart(
        _ start: WeightStart?, of base: BaseModel, adapter: String
    ) throws(TrainingError) {
        guard base.options.start == start else { throw .otherStart(adapter: adapter) }
    }

    private static func attach(
        _ config: any AdapterConfig, to base: BaseModel, seed: UInt64, isTrainable: Bool
    ) throws -> AdapterSet {
        do {
            let set = try config.attach(to: base.registry, seed: seed, isTrainable: isTrainable)
            // The adapter has copies of what it starts as, and the originals of what was taken out.
            base.registry.starts = [:]
            return set
        } catch {
            // What broke a gather is more than its words.
            throw base.shards?.failure ?? error
        }
    }

    /// The tensors that the optimizer will update, in a fixed order.
    public var trainableParameters: [Parameter] { base.registry.trainableParameters }

    /// The model in numbers, for the event of its loading.
    ///
    /// - Parameters:
    ///   - numElementsRead: of the base's files, by all processes.
    ///   - loadSeconds: that reading and quantizing took.
    /// - Returns: what the event says.
    func description(numElementsRead: Int, loadSeconds: Double) -> ModelDescription {
        ModelDescription(
            architecture: base.architecture, numParameters: base.registry.numElements,
            numTrainableParameters: trainableParameters.reduce(0) { $0 + $1.value.numElements },
            numAdaptedLinears: adapter.numAdaptedLinears, weightSizeBytes: base.registry.sizeBytes,
            numElementsRead: numElementsRead, loadSeconds: loadSeconds)
    }
}
