public import Torch

/// An update of a weight that is a product of two thin matrices: `s B A`.
public struct LowRankUpdate {
    /// The matrix A, `[r, inFeatures]`, float32.
    public let a: Tensor
    /// The matrix B, `[outFeatures, r]`, float32.
    public let b: Tensor
    /// The factor s.
    public let scaling: Double

    /// Describes an update.
    public init(a: Tensor, b: Tensor, scaling: Double) {
        self.a = a
        self.b = b
        self.scaling = scaling
    }

    /// Rows that are multiplied at once, always the same ones, so that a part of the product has the bits of the whole.
    private static let rowsOfBlock = 64

    /// Elements of the product.
    ///
    /// - Parameter range: row-major over `[outFeatures, inFeatures]`; not empty.
    /// - Returns: `[range.count]`, float32; the same bits whatever the range.
    /// - Throws: `TorchError` if memory does not suffice.
    /// - Memory: twice the elements' rows.
    package func elements(_ range: Range<Int>) throws(TorchError) -> Tensor {
        let (numRows, numColumns) = (b.shape[0], a.shape[1])
        let first = range.lowerBound / numColumns / Self.rowsOfBlock * Self.rowsOfBlock
        let last = (range.upperBound - 1) / numColumns
        var parts: [Tensor] = []
        for start in stride(from: first, through: last, by: Self.rowsOfBlock) {
            let rows = try b.narrow(0, start, min(Self.rowsOfBlock, numRows - start))
            parts.append(try (rows * scaling).matmul(a))
        }
        let product = parts.count == 1 ? parts[0] : try Tensor.concatenated(parts)
        return try product.reshape([-1])
            .narrow(0, range.lowerBound - first * numColumns, range.count)
    }

    /// What is left of a weight without this update: `W - s B A`.
    ///
    /// - Parameter weight: `[outFeatures, inFeatures]`.
    /// - Returns: a new tensor of that shape, float32.
    /// - Throws: `TorchError` if memory does not suffice.
    package func taken(from weight: Tensor) throws(TorchError) -> Tensor {
        try weight.to(.float32) - elements(0..<weight.numElements).reshape(weight.shape)
    }
}

/// How the adapter of a layer starts where that depends on the layer's weight, computed before the weight is stored.
public struct LowRankStart {
    /// What A and B start as.
    public let update: LowRankUpdate
    /// What was taken out of the weight before it was stored; nil for nothing.
    public let subtracted: LowRankUpdate?

    /// Describes a start.
    public init(update: LowRankUpdate, subtracted: LowRankUpdate?) {
        self.update = update
        self.subtracted = subtracted
    }
}

/// Takes low-rank updates out of the weights of another source, while these are read: `W - s B A`.
///
/// It belongs over the file's numbers, beneath what casts, quantizes or divides: so these store what is left, and the model, its
/// storages and its shards do not know. Weights from which nothing is taken pass.
///
/// - Memory: the elements that are asked for, a few times in float32.
package final class ResidualSource: ParameterSource {
    private let base: any ParameterSource
    /// What is taken out, by the names of the weights.
    package let subtracted: [String: LowRankUpdate]

    /// Decorates a source.
    ///
    /// - Parameters:
    ///   - base: the file's numbers.
    ///   - starts: how adapters start, by the paths of their layers.
    package init(_ base: any ParameterSource, starts: [String: LowRankStart]) {
        self.base = base
        subtracted = Dictionary(
            uniqueKeysWithValues: starts.compactMap { path, start in
                start.subtracted.map { (path + ".weight", $0) }
            })
    }

    /// The tensor of the other source, or what is left of it, float32.
    package func tensor(at path: String, shape: [Int]) throws -> Tensor {
        let tensor = try base.tensor(at: path, shape: shape)
        return try subtracted[path]?.taken(from: tensor) ?? tensor
    }

    /// Elements of the other source, or what is left of them, float32.
    package func elements(_ range: Range<Int>, at path: String, shape: [Int]) throws -> Tensor {
        let elements = try base.elements(range, at: path, shape: shape)
        guard let update = subtracted[path], !range.isEmpty else { return elements }
        return try elements.to(.float32) - update.elements(range)
    }
}
