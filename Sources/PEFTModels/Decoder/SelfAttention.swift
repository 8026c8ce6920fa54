import PEFTLayers
import Torch

// N tokens of all segments, C hidden, H query heads, G key/value heads, D head dimension.

/// The projections of a token to query, key and value.
enum QueryKeyValue {
    /// A linear for each.
    case separate(query: Linear, key: Linear, value: Linear)
    /// One linear: all heads' queries, then their keys, then their values.
    case fused(Linear)
    /// One linear: a head's query, key and value, then the next head's; as many key/value heads as query heads.
    case perHead(Linear)

    /// The heads of tokens.
    ///
    /// - Parameters:
    ///   - input: `[N, C]`.
    ///   - shape: sizes of the heads.
    ///   - context: passed to the linears.
    /// - Returns: `[N, H, D]`, `[N, G, D]`, `[N, G, D]`.
    /// - Throws: `TorchError` if the shapes do not fit.
    func callAsFunction(
        _ input: Recomputable, _ shape: HeadShape, context: ForwardContext
    ) throws(TorchError) -> (query: Tensor, key: Tensor, value: Tensor) {
        func heads(_ states: Tensor) throws(TorchError) -> Tensor {
            try states.reshape([states.shape[0], -1, shape.headDim])
        }
        switch self {
        case .separate(let query, let key, let value):
            return (
                try heads(query(input, context: context)), try heads(key(input, context: context)),
                try heads(value(input, context: context))
            )
        case .fused(let linear):
            let all = try heads(linear(input, context: context))
            let (own, shared) = (shape.numHeads, shape.numKeyValueHeads)
            return (
                try all.narrow(1, 0, own), try all.narrow(1, own, shared),
                try all.narrow(1, own + shared, shared)
            )
        case .perHead(let linear):
            let all = try linear(input, context: context)
            let parts = try all.reshape([all.shape[0], shape.numHeads, 3, shape.headDim])
            return (try parts.select(2, 0), try parts.select(2, 1), try parts.select(2, 2))
        }
    }
}

/// Sizes of the heads of a block.
struct HeadShape {
    let numHeads: Int
    let numKeyValueHeads: Int
    let headDim: Int

    init(_ config: DecoderConfig) {
        numHeads = config.numAttentionHeads
        numKeyValueHeads = config.keyValueHeads
        headDim = config.headSize
    }
}

/// Causal grouped-query attention of a block, with what families add to it.
final class SelfAttention {
    /// What scores depend on.
    struct Options {
        /// Sizes of the heads.
        var heads: HeadShape
        /// Factor of the scores.
        var scale: Double
        /// How many keys a token sees at most, itself among them; nil: all before it.
        var window: Int?
        /// Cap of the scores; nil: none.
        var softCap: Double?
        /// Which of the model's rotary embeddings turns query and key; nil: none.
        var rotary: Int? = 0

        /// Plain attention, scaled by `1 / sqrt(D)`.
        init(_ config: DecoderConfig) {
            heads = HeadShape(config)
            scale = 1 / Double(config.headSize).squareRoot()
        }
    }

    /// The block's place in the model, under which its keys and values are cached; the model says it.
    var index = 0

    private let options: Options
    private let queryKeyValue: QueryKeyValue
    private let queryNorm: RMSNorm?
    private let keyNorm: RMSNorm?
    private let output: Linear

    /// Composes the attention of a block.
    init(
        _ options: Options, _ queryKeyValue: QueryKeyValue, queryNorm: RMSNorm? = nil,
        keyNorm: RMSNorm? = nil, output: Linear
    ) {
        self.options = options
        self.queryKeyValue = queryKeyValue
        self.queryNorm = queryNorm
        self.keyNorm = keyNorm
        self.output = output
    }

    /// Attends; `[N, C] -> [N, C]`.
    func callAsFunction(
        _ input: Recomputable, rotations: [RotaryEmbedding.Rotation], context: ForwardContext
    ) throws(TorchError) -> Tensor {
        var (query, key, value) = try queryKeyValue(input, options.heads, context: context)
        query = try normalized(query, queryNorm)
        key = try normalized(key, keyNorm)
        if let rotary = options.rotary {
            query = try rotations[rotary](query)
            key = try rotations[rotary](key)
        }
        let attended = try attend(query, key, value, context)  // [N, H, D]
        return try output(attended.reshape([query.shape[0], -1]), context: context)
    }

    /// Normalizes heads over as many channels as the norm has: those of each head, or of all.
    private func normalized(_ heads: Tensor, _ norm: RMSNorm?) throws(TorchError) -> Tensor {
        guard let norm else { return heads }
        let shape = heads.shape
        return try norm(heads.reshape([shape[0], -1, norm.weight.value.numElements]))
            .reshape(shape)
    }

    private func attend(
        _ query: Tensor, _ key: Tensor, _ value: Tensor, _ context: ForwardContext
    ) throws(TorchError) -> Tensor {
        if let cache = context.cache {
            let all = try cache.append(layer: index, keys: key, values: value)
            if query.shape[0] == 1 || context.layout.firstPosition > 0 {
                return try attendEach(query, all.keys, all.values)
            }
        }
        return try Attention.causal(
            query: query, key: key, value: value, layout: context.layout, scale: options.scale,
            window: options.window, softCap: options.softCap)
    }

    /// Attends from each of the newest tokens to all before it, one after the other.
    private func attendEach(
        _ query: Tensor, _ keys: Tensor, _ values: Tensor
    ) throws(TorchError) -> Tensor {
        let (count, total) = (query.shape[0], keys.shape[0])
        let outputs = try (0..<count).map { token throws(TorchError) in
            let seen = total - count + token + 1
            return try Attention.newest(
                query: query.narrow(0, token, 1), key: keys.narrow(0, 0, seen),
                value: values.narrow(0, 0, seen), scale: options.scale, window: options.window,
                softCap: options.softCap)
        }
        return outputs.count == 1 ? outputs[0] : try Tensor.concatenated(outputs)
    }
}
