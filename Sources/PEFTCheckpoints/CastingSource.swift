public import PEFTLayers
public import Torch

/// A source whose floating-point tensors have one element type, converted one at a time.
public final class CastingSource: ParameterSource {
    private let base: any ParameterSource
    private let dtype: DType

    /// A source that gives the tensors of `base` in `dtype`.
    public init(_ base: any ParameterSource, dtype: DType) {
        self.base = base
        self.dtype = dtype
    }

    /// The tensor of `base` in this source's element type; the same tensor if it has it already.
    public func tensor(at path: String, shape: [Int]) throws -> Tensor {
        let tensor = try base.tensor(at: path, shape: shape)
        guard tensor.dtype.isFloatingPoint, tensor.dtype != dtype else { return tensor }
        return try tensor.to(dtype)
    }
}
