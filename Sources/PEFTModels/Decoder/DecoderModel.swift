public import PEFTLayers
public import Torch

// N tokens of all segments, C hidden, V vocabulary.

/// A decoder of any family: embedding, blocks, final norm, head.
///
/// What differs between families is in the blocks that they make and in the few values here.
public final class DecoderModel: CausalLanguageModel {
    /// What happens at the two ends of a model.
    struct Ends {
        /// Factor of the embedding.
        var embeddingScale = 1.0
        /// Whether the factor is rounded to the compute dtype first.
        var roundsEmbeddingScale = false
        /// What becomes of the head's output.
        var logitTransform: LogitTransform?
    }

    /// Rows of embedding and head.
    public let vocabularySize: Int
    /// The longest trained sequence.
    public let maxPositionEmbeddings: Int
    /// The layer that tokens enter by.
    public let inputEmbedding: Embedding
    /// The decoder blocks, in order.
    public let units: [ModuleUnit]
    /// The output head, `[V, C]`, tied to the embedding or of its own.
    public let head: Linear
    /// What becomes of the head's output.
    public var logitTransform: LogitTransform? { ends.logitTransform }

    private let ends: Ends
    private let positionEmbedding: Embedding?
    private let rotaries: [RotaryEmbedding]
    private let blocks: [DecoderBlock]
    private let norm: any Normalization

    /// Builds a model, asking the scope's source for each tensor once.
    ///
    /// - Parameters:
    ///   - config: sizes.
    ///   - names: of what is outside the blocks.
    ///   - ends: what happens there.
    ///   - rotaries: the rotary embeddings that blocks choose from.
    ///   - scope: the root.
    ///   - makeNorm: makes the final norm.
    ///   - makeBlock: makes the block with an index in the files.
    /// - Throws: the source's error; ``ModelError/noSuchBlock(_:numBlocks:)``.
    init(
        _ config: DecoderConfig, names: FileConventions.Names = FileConventions.Names(),
        ends: Ends = Ends(),
        rotaries: [RotarySettings], _ scope: Scope,
        norm makeNorm: (Scope) throws -> any Normalization,
        block makeBlock: (Int, Scope) throws -> DecoderBlock
    ) throws {
        self.ends = ends
        vocabularySize = config.vocabSize
        maxPositionEmbeddings = config.maxPositionEmbeddings
        let model = scope / names.base
        inputEmbedding = try Embedding(
            vocabularySize: config.vocabSize, hiddenSize: config.hiddenSize,
            model / names.embedding)
        positionEmbedding = try names.positions.map { name in
            try Embedding(
                vocabularySize: config.maxPositionEmbeddings, hiddenSize: config.hiddenSize,
                model / name)
        }
        var blocks: [DecoderBlock] = []
        var units: [ModuleUnit] = []
        let order = scope.registry.blockOrder?.blocks ?? Array(0..<config.numHiddenLayers)
        if let last = order.max(), last >= config.numHiddenLayers {
            throw ModelError.noSuchBlock(last, numBlocks: config.numHiddenLayers)
        }
        for (index, ofFiles) in order.enumerated() {
            let (block, unit) = try (model / names.layers).unit(index) { scope in
                try makeBlock(ofFiles, scope)
            }
            block.attention.index = index
            blocks.append(block)
            units.append(unit)
        }
        self.blocks = blocks
        self.units = units
        norm = try makeNorm(model / names.norm)
        head = try scope.head(
            names.head, tiedTo: config.tieWordEmbeddings ? inputEmbedding.weight : nil,
            shape: [config.vocabSize, config.hiddenSize])
        self.rotaries = try rotaries.map { try $0.makeEmbedding() }
    }

    /// Runs embedding, blocks and final norm.
    public func hiddenStates(
        _ tokens: Tensor, context: ForwardContext, execution: any BlockExecution
    ) throws(TorchError) -> Tensor {
        try Parameter.withOriginals(!context.usesAdapters) { () throws(TorchError) in
            try run(tokens, context: context, execution: execution)
        }
    }

    private func run(
        _ tokens: Tensor, context: ForwardContext, execution: any BlockExecution
    ) throws(TorchError) -> Tensor {
        var hidden = try execution.atEnd(.input) { () throws(TorchError) in
            try embedded(tokens, context)  // [N, C]
        }
        let (dtype, device) = (hidden.dtype, hidden.device)
        let rotations = try rotaries.map { rotary throws(TorchError) in
            try rotary.rotation(for: context.layout, dtype: dtype, on: device)
        }
        for (block, unit) in zip(blocks, units) {
            hidden = try execution(unit, hidden) { input throws(TorchError) in
                try block(input, rotations: rotations, context: context)
            }
        }
        return try norm(hidden)
    }

    /// Whether each rotary embedding turns tokens alike in sequences of both lengths.
    public func canExtendCache(from numTokens: Int, to length: Int) -> Bool {
        rotaries.allSatisfy { $0.isSame(length: numTokens, otherLength: length) }
    }

    private func embedded(
        _ tokens: Tensor, _ context: ForwardContext
    ) throws(TorchError) -> Tensor {
        let layout = context.layout
        var hidden = try inputEmbedding(tokens, usesAdapter: context.usesAdapters)
        if let alpha = context.regularization.embeddingNoise, let key = context.dropout {
            hidden = try EmbeddingNoise.added(alpha, to: hidden, layout: layout, key: key)
        }
        if let positionEmbedding {
            let positions = try Tensor(layout.positions, shape: [layout.numTokens])
            hidden =
                try hidden
                + positionEmbedding(
                    positions.to(tokens.device), usesAdapter: context.usesAdapters)
        }
        guard ends.embeddingScale != 1 else { return hidden }
        guard ends.roundsEmbeddingScale else { return try hidden * ends.embeddingScale }
        let scale = try Tensor.full([1], ends.embeddingScale, dtype: hidden.dtype)
        return try hidden * scale.to(hidden.device)
    }
}

/// What some families make of the head's output: `cap tanh(z / (divisor cap))`, or `z / divisor` without cap.
public struct LogitTransform: Hashable, Sendable {
    /// Divides the logits.
    public var divisor: Double
    /// Bounds the logits; nil does not.
    public var softCap: Double?

    /// Describes the transform.
    public init(divisor: Double = 1, softCap: Double? = nil) {
        self.divisor = divisor
        self.softCap = softCap
    }

    /// Transforms logits of any shape; differentiable.
    ///
    /// - Throws: `TorchError` if memory does not suffice.
    public func callAsFunction(_ logits: Tensor) throws(TorchError) -> Tensor {
        var logits = logits
        if divisor != 1 { logits = try logits * (1 / divisor) }
        if let softCap { logits = try (logits * (1 / softCap)).tanh() * softCap }
        return logits
    }
}
