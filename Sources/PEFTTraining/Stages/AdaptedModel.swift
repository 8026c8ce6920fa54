public import PEFTAdapters
public import PEFTLayers

/// The second stage: a base model with its adapter attached; the trainable set is fixed from here on.
public final class AdaptedModel {
    /// The base, now with adapters on its linears.
    public let base: BaseModel
    /// The attached adapter.
    public let adapter: AttachedLoRA

    /// Attaches a new adapter, or one whose tensors are loaded afterwards.
    ///
    /// - Parameters:
    ///   - base: a base model without adapter.
    ///   - config: targets, rank, scaling.
    ///   - seed: of the initialization.
    /// - Throws: `AdapterError` naming every pattern that matches nothing.
    public init(_ base: BaseModel, adapter config: LoRAConfig, seed: UInt64) throws {
        self.base = base
        adapter = try AttachedLoRA(config, to: base.registry, seed: seed)
    }

    /// The tensors that the optimizer will update, in a fixed order.
    public var trainableParameters: [Parameter] { base.registry.trainableParameters }
}
