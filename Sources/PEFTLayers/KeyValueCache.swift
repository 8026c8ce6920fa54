public import Torch

/// Keys and values of the tokens so far, layer by layer, for generation.
///
/// The tokens of a head lie side by side, so that attention reads each head's keys and values in one stream.
///
/// - Memory: `2 * layers * capacity * kvHeads * headDim` elements; the capacity doubles when it is used up.
public final class KeyValueCache {
    private struct Layer {
        var keys: Tensor
        var values: Tensor
        var count = 0
    }

    private var layers: [Int: Layer] = [:]

    /// Makes an empty cache.
    public init() {}

    /// The number of tokens that the first layer holds.
    public var numTokens: Int { layers[0]?.count ?? 0 }

    /// Appends the keys and values of new tokens and returns those of all tokens.
    ///
    /// - Parameters:
    ///   - layer: index of the decoder block.
    ///   - keys: `[newTokens, kvHeads, headDim]`.
    ///   - values: as `keys`.
    /// - Returns: `[tokens, kvHeads, headDim]`, views of the cache.
    /// - Throws: `TorchError` if shapes change between calls.
    public func append(
        layer: Int, keys: Tensor, values: Tensor
    ) throws(TorchError) -> (keys: Tensor, values: Tensor) {
        try withoutGrad { () throws(TorchError) in
            let added = keys.shape[0]
            var entry: Layer
            if let existing = layers[layer] {
                entry = existing
            } else {
                entry = Layer(keys: try keys.narrow(0, 0, 0), values: try values.narrow(0, 0, 0))
            }
            guard keys.shape == values.shape,
                keys.shape.dropFirst() == entry.keys.shape.dropFirst()
            else {
                throw TorchError(
                    operation: "cache", operands: [keys.summary, values.summary],
                    message: """
                        layer \(layer) holds keys and values of shape \
                        \([entry.count] + entry.keys.shape.dropFirst()); expected more tokens of it
                        """)
            }
            if entry.count + added > entry.keys.shape[0] {
                let capacity = max(64, entry.count + added, 2 * entry.keys.shape[0])
                entry.keys = try Self.grown(entry.keys, to: capacity)
                entry.values = try Self.grown(entry.values, to: capacity)
            }
            try entry.keys.narrow(0, entry.count, added).copyInPlace(from: keys)
            try entry.values.narrow(0, entry.count, added).copyInPlace(from: values)
            entry.count += added
            layers[layer] = entry
            return (
                try entry.keys.narrow(0, 0, entry.count),
                try entry.values.narrow(0, 0, entry.count)
            )
        }
    }

    /// Forgets all tokens but the first ones.
    ///
    /// - Parameter numTokens: how many are kept; nothing happens if there are no more.
    public func truncate(to numTokens: Int) {
        layers = layers.mapValues { layer in
            var shorter = layer
            shorter.count = min(layer.count, numTokens)
            return shorter
        }
    }

    /// A copy with room for more: `[capacity, kvHeads, headDim]`, a view of `[kvHeads, capacity, headDim]`.
    private static func grown(_ tensor: Tensor, to capacity: Int) throws(TorchError) -> Tensor {
        let shape = tensor.shape
        let size = Swift.max(capacity, shape[0])
        let larger = try Tensor.zeros(
            [shape[1], size, shape[2]], dtype: tensor.dtype, on: tensor.device
        ).transposed(0, 1)
        try larger.narrow(0, 0, shape[0]).copyInPlace(from: tensor)
        return larger
    }
}
