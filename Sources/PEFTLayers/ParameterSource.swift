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

    /// The weight of the linear layer at a path such as `model.layers.0.mlp.up_proj`.
    ///
    /// - Parameters:
    ///   - path: the layer's path, without `.weight`.
    ///   - outFeatures: rows of the weight.
    ///   - inFeatures: columns of the weight.
    /// - Returns: the weight in the storage that this source keeps it in.
    /// - Throws: an error of the source that names path, expected and found.
    func linearWeight(
        at path: String, outFeatures: Int, inFeatures: Int
    ) throws -> any LinearWeight
}

extension ParameterSource {
    /// A dense weight over the tensor at `path.weight`.
    public func linearWeight(
        at path: String, outFeatures: Int, inFeatures: Int
    ) throws -> any LinearWeight {
        let name = path + ".weight"
        let value = try tensor(at: name, shape: [outFeatures, inFeatures])
        return DenseWeight(try Parameter(path: name, value: value, isTrainable: false))
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

/// A hash that is the same in every process and on every machine (FNV-1a, 64 bit, finished as in SplitMix64).
public enum StableHash {
    /// Hashes a seed, any integers and a text.
    public static func of(_ seed: UInt64, _ text: String, _ integers: Int...) -> UInt64 {
        var hash: UInt64 = 0xcbf2_9ce4_8422_2325
        func mix(_ byte: UInt8) {
            hash = (hash ^ UInt64(byte)) &* 0x100_0000_01b3
        }
        for word in [seed] + integers.map({ UInt64(bitPattern: Int64($0)) }) {
            for shift in stride(from: 0, to: 64, by: 8) {
                mix(UInt8(truncatingIfNeeded: word >> UInt64(shift)))
            }
        }
        text.utf8.forEach(mix)
        hash = (hash ^ (hash >> 30)) &* 0xbf58_476d_1ce4_e5b9
        hash = (hash ^ (hash >> 27)) &* 0x94d0_49bb_1331_11eb
        return hash ^ (hash >> 31)
    }
}
