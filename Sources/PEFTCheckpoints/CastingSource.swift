public import PEFTLayers
public import Torch

/// A source whose floating-point tensors have one element type, converted one at a time.
///
/// Weights that the base source keeps in a storage of their own, such as 4-bit ones, stay as they are, so it goes around a
/// quantizing source: the weights are then quantized from what the file has, without rounding on the way.
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
        try cast(base.tensor(at: path, shape: shape))
    }

    /// Elements of `base` in this source's element type.
    public func elements(_ range: Range<Int>, at path: String, shape: [Int]) throws -> Tensor {
        try cast(base.elements(range, at: path, shape: shape))
    }

    private func cast(_ tensor: Tensor) throws(TorchError) -> Tensor {
        guard tensor.dtype.isFloatingPoint, tensor.dtype != dtype else { return tensor }
        return try tensor.to(dtype)
    }

    /// The weight of `base`; a dense one in this source's element type.
    public func linearWeight(at path: String, shape: [Int]) throws -> any LinearWeight {
        let weight = try base.linearWeight(at: path, shape: shape)
        guard let dense = weight as? DenseWeight, dense.parameter.value.dtype != dtype else {
            return weight
        }
        let value = try dense.parameter.value.to(dtype)
        return DenseWeight(
            try Parameter(path: dense.parameter.path, value: value, isTrainable: false))
    }
}
