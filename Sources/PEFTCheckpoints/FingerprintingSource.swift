public import PEFTLayers
public import Torch

/// Passes tensors of another source through, and computes the fingerprint of what passed.
///
/// A tensor's hash is that of its path, its shape and at most 1024 of its elements, evenly spread, the first and the last
/// among them, as float32 bit patterns. It belongs directly over a file, beneath what casts or quantizes: then the numbers are the
/// file's own.
///
/// - Memory: none; tensors are not copied.
public final class FingerprintingSource: ParameterSource {
    private let base: any ParameterSource
    private var passed: [String: (hash: UInt64, numElements: Int)] = [:]

    /// The most elements of a tensor that its hash depends on.
    private static let numSamples = 1024

    /// Decorates a source.
    public init(_ base: any ParameterSource) {
        self.base = base
    }

    /// The tensor of the other source; its hash is kept.
    ///
    /// - Throws: the other source's error.
    /// - Complexity: 1024 elements are read.
    public func tensor(at path: String, shape: [Int]) throws -> Tensor {
        let tensor = try base.tensor(at: path, shape: shape)
        let content = [shape.count] + shape + (try Self.samples(of: tensor))
        let hash = StableHash.of(StableHash.of(UInt64(BaseFingerprint.version), path), content)
        passed[path] = (hash, tensor.numElements)
        return tensor
    }

    /// The fingerprint of all tensors that passed, in whatever order, each counted once.
    public var fingerprint: BaseFingerprint {
        let ordered = passed.sorted { $0.key < $1.key }
        let hashes = ordered.map { Int(truncatingIfNeeded: $0.value.hash) }
        let digest = String(
            StableHash.of(UInt64(BaseFingerprint.version), hashes), radix: 16)
        return BaseFingerprint(
            digest: String(repeating: "0", count: 16 - digest.count) + digest,
            numTensors: ordered.count,
            numElements: ordered.reduce(0) { $0 + $1.value.numElements })
    }

    /// The bit patterns, as float32, of evenly spread elements.
    private static func samples(of tensor: Tensor) throws(TorchError) -> [Int] {
        let count = tensor.numElements
        let indices =
            count <= numSamples
            ? Array(0..<Int64(count))
            : (0..<numSamples).map { Int64($0 * (count - 1) / (numSamples - 1)) }
        let chosen = try tensor.reshape([count])
            .indexSelected(0, Tensor(indices, shape: [indices.count]))
        return try chosen.floats().map { Int($0.bitPattern) }
    }
}
