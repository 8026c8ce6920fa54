public import Foundation
public import PEFTAdapters
import PEFTCheckpoints
public import PEFTLayers
import Torch

/// The second stage: a base model with its adapter attached; the trainable set is fixed from here on.
public final class AdaptedModel {
    /// The base, now with adapters on its linears.
    public let base: BaseModel
    /// The attached adapter.
    public let adapter: AdapterSet

    /// Attaches a new adapter.
    ///
    /// - Parameters:
    ///   - base: a base model without adapter.
    ///   - config: targets, rank, scaling.
    ///   - seed: of the initialization.
    /// - Throws: `AdapterError` naming every pattern that matches nothing.
    public init(_ base: BaseModel, adapter config: any AdapterConfig, seed: UInt64) throws {
        self.base = base
        adapter = try config.attach(to: base.registry, seed: seed)
    }

    /// Attaches the adapter of a folder.
    ///
    /// - Parameters:
    ///   - base: a base model without adapter.
    ///   - folder: as PEFT or ``FineTune`` writes it.
    ///   - seed: of what the folder's tensors then replace.
    /// - Throws: `CheckpointError` or `AdapterError` naming everything that does not fit.
    public init(_ base: BaseModel, loading folder: URL, seed: UInt64 = 0) throws {
        self.base = base
        let files = try AdapterFolder.read(folder)
        let config = try AdapterMethods.readConfig(adapterConfigJSON: files.configuration)
        adapter = try config.attach(to: base.registry, seed: seed)
        try adapter.read(from: files)
    }

    /// The tensors that the optimizer will update, in a fixed order.
    public var trainableParameters: [Parameter] { base.registry.trainableParameters }

    /// The model in numbers, for the event of its loading.
    func description(loadSeconds: Double) -> ModelDescription {
        ModelDescription(
            architecture: base.architecture, numParameters: base.registry.numElements,
            numTrainableParameters: trainableParameters.reduce(0) { $0 + $1.value.numElements },
            numAdaptedLinears: adapter.adapters.count, weightSizeBytes: base.registry.sizeBytes,
            loadSeconds: loadSeconds)
    }
}
