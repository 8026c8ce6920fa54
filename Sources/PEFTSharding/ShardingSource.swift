package import PEFTLayers
package import Torch

/// Reads of each tensor what this rank keeps of it, into the rank's shards.
///
/// What is not divided (vectors outside of the blocks) comes whole from the other source.
package final class ShardingSource: ParameterSource {
    private let base: any ParameterSource
    private let placement: any TensorPlacement
    private let dtype: DType
    private let divides: (String) -> Bool

    /// Decorates a source.
    ///
    /// - Parameters:
    ///   - base: gives elements of `dtype`.
    ///   - shards: where they go; laid out.
    ///   - dtype: the element type of all tensors.
    package init(_ base: any ParameterSource, shards: ModelShards, dtype: DType) {
        self.base = base
        self.dtype = dtype
        placement = shards
        divides = shards.divides
    }

    /// Decorates a source that has shapes only, to note what a model consists of.
    package init(planning plan: LayoutPlan, _ base: any ParameterSource, dtype: DType) {
        self.base = base
        self.dtype = dtype
        placement = plan
        divides = { _ in true }
    }

    /// The tensor in its unit, filled as far as it is this rank's; or the other source's.
    public func tensor(at path: String, shape: [Int]) throws -> Tensor {
        guard divides(path) else { return try base.tensor(at: path, shape: shape) }
        let placed = try placement.place(PlacedShape(path: path, shape: shape, dtype: dtype))
        let elements = try base.elements(placed.range, at: path, shape: shape)
        if let own = placed.own {
            try withoutGrad { try own.copyInPlace(from: elements) }
        }
        return placed.whole
    }
}
