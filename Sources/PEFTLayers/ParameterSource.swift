public import Torch

/// Answers: where does the tensor at this path come from.
///
/// A checkpoint answers from its files, a decorator (casting, quantizing, sharding) changes what another source answers. Each
/// tensor is asked for once, in the order of construction, so that a source can stream.
public protocol ParameterSource: AnyObject {
    /// The tensor at a Hugging Face path such as `model.norm.weight`.
    ///
    /// - Parameters:
    ///   - path: full name.
    ///   - shape: what the model needs; another shape is an error.
    /// - Returns: the tensor in the file's dtype, or in the one that a decorator gives it.
    /// - Throws: an error of the source that names path, expected and found.
    func tensor(at path: String, shape: [Int]) throws -> Tensor

    /// Some of the elements of the tensor at a path: what one of several processes reads of it.
    ///
    /// - Parameters:
    ///   - range: elements, row-major over the whole tensor; may be empty.
    ///   - path: full name.
    ///   - shape: what the model needs; another shape is an error.
    /// - Returns: the elements, `[range.count]`, as ``tensor(at:shape:)`` would give them.
    /// - Throws: an error of the source that names path, expected and found.
    func elements(_ range: Range<Int>, at path: String, shape: [Int]) throws -> Tensor

    /// The weight of a linear layer, such as `model.layers.0.mlp.up_proj.weight`.
    ///
    /// - Parameters:
    ///   - path: full name of the tensor.
    ///   - shape: `[outFeatures, inFeatures]`, or `[experts, outFeatures, inFeatures]` of a layer of each of several experts.
    /// - Returns: the weight in the storage that this source keeps it in; experts' rows one below the other.
    /// - Throws: an error of the source that names path, expected and found.
    func linearWeight(at path: String, shape: [Int]) throws -> any LinearWeight
}

extension ParameterSource {
    /// The elements out of the whole tensor.
    public func elements(_ range: Range<Int>, at path: String, shape: [Int]) throws -> Tensor {
        let flat = try tensor(at: path, shape: shape).contiguous().reshape([-1])
        return try flat.narrow(0, range.lowerBound, range.count)
    }

    /// A dense weight over the tensor.
    public func linearWeight(at path: String, shape: [Int]) throws -> any LinearWeight {
        let value = try tensor(at: path, shape: shape)
        let matrix = shape.count == 2 ? value : try value.reshape([-1, shape.last ?? 1])
        return DenseWeight(try Parameter(path: path, value: matrix, isTrainable: false))
    }
}

/// Normal random numbers for every path, for tests and examples; the same path gives the same numbers.
public final class RandomSource: ParameterSource {
    private let seed: UInt64
    private let standardDeviation: Double
    private let dtype: DType

    /// Makes a source of normal numbers; one-dimensional tensors (norms) are drawn around one.
    public init(seed: UInt64, standardDeviation: Double = 0.02, dtype: DType = .float32) {
        self.seed = seed
        self.standardDeviation = standardDeviation
        self.dtype = dtype
    }

    /// The numbers of a path, whatever was drawn before.
    public func tensor(at path: String, shape: [Int]) throws -> Tensor {
        let generator = try Generator(seed: StableHash.of(seed, path))
        let mean = shape.count == 1 && path.hasSuffix("weight") ? 1.0 : 0.0
        let values = try Tensor.normal(
            shape, mean: mean, standardDeviation: standardDeviation, generator: generator)
        return try values.to(dtype)
    }
}
