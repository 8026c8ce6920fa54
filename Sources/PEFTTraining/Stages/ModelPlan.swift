import Foundation
import PEFTLayers
import PEFTModels
import PEFTSharding
import Torch

/// What a model consists of, known before any of its weights is read.
struct ModelPlan {
    /// The shape of every tensor of the files that the model has, by name.
    let shapes: [String: [Int]]
    /// The shape of every tensor of the files.
    let shapesInFiles: [String: [Int]]
    /// The tensors as they are stored in memory.
    let layout: LayoutPlan
    /// The layers, without elements.
    let registry = ModuleRegistry()
    /// The paths of the decoder blocks, in order.
    let blocks: [String]
    /// The path of the embedding's table.
    let embedding: String
    /// Whether the head is the embedding.
    let isHeadTied: Bool

    /// Builds a model without weights.
    ///
    /// - Parameters:
    ///   - config: a `config.json`.
    ///   - options: how it is to be stored.
    /// - Throws: `ModelError`; `QuantizationError` for a block size that there is not.
    /// - Memory: none for the weights.
    init(_ config: Data, options: BaseModelOptions) throws {
        let source = ShapeSource()
        let layout = LayoutPlan()
        let named = options.replicated(source)
        let dense = ShardingSource(planning: layout, named, dtype: options.computeDType)
        registry.blockOrder = options.blocks
        let model = try ModelRegistry.makeModel(
            config: config,
            Scope(
                registry: registry,
                source: options.quantized(named, dense: dense, placement: layout)))
        shapes = source.shapes
        var whole = options
        whole.blocks = nil
        shapesInFiles =
            options.blocks == nil ? shapes : try ModelPlan(config, options: whole).shapes
        self.layout = layout
        blocks = model.units.map(\.path)
        embedding = model.inputEmbedding.weight.path
        isHeadTied = model.head.weight is TiedWeight
    }
}
