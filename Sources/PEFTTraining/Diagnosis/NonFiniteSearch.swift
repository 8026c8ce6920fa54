import Torch

/// Finds the first operation that makes an infinity or a NaN out of numbers.
///
/// It looks at each result as it is made and keeps none, so it takes no memory besides the pass itself.
public struct NonFiniteSearch: Sendable {
    /// The layer of the first such operation: `model.layers.3.mlp.up_proj`; empty outside of all layers.
    public private(set) var layer = ""
    /// The operation; nil if all results were finite.
    public private(set) var operation: String?
    /// Whether it was in backward.
    public private(set) var isInBackward = false
    /// The first index of the result's first dimension, a token in most layers, that holds such a value.
    public private(set) var firstIndex: Int?
    /// The extent of the result's first dimension.
    public private(set) var extent = 0
    /// Whether one of its inputs was infinite or NaN already: a weight that was read so.
    public private(set) var isInInput = false

    /// Runs a computation and looks at every result.
    ///
    /// - Parameter body: forward, and backward if that is to be looked at.
    /// - Returns: the first operation with a result that is not finite, if there is one.
    /// - Throws: what `body` throws.
    /// - Complexity: reads every result once more, and waits for the device each time.
    public static func run(_ body: () throws -> Void) throws -> NonFiniteSearch {
        var search = NonFiniteSearch()
        try Trace.run(onEvent: { search.look(at: $0) }, body)
        return search
    }

    private mutating func look(at event: TraceEvent) {
        // Memory without inputs (`empty`) is filled later.
        guard operation == nil, event.kind == .operation, !event.inputs.isEmpty,
            event.outputs.contains(where: { !Self.isFinite($0.tensor) })
        else { return }
        operation = event.name
        layer = event.layer
        isInBackward = event.frame?.isPullback == true
        isInInput = event.inputs.contains { !Self.isFinite($0.tensor) }
        guard let result = event.outputs.first(where: { !Self.isFinite($0.tensor) })?.tensor,
            let count = result.shape.first, count > 0,
            let values = try? result.detach().floats()
        else { return }
        extent = count
        firstIndex = values.firstIndex { !$0.isFinite }.map { $0 / (values.count / count) }
    }

    private static func isFinite(_ tensor: Tensor) -> Bool {
        // A result that cannot be looked at is not the one that is searched for.
        guard tensor.dtype.isFloatingPoint else { return true }
        return (try? tensor.allFinite()) ?? true
    }

    /// Where it is, in words: "`mul` in model.layers.3.mlp"; nil if all was finite.
    public var place: String? {
        operation.map { name in
            let layerText = layer.isEmpty ? "outside of all layers" : "in \(layer)"
            return "`\(name)` \(layerText)\(isInBackward ? ", in backward" : "")"
        }
    }
}
