public import PEFTLayers
public import Torch

/// Passes tensors of another source through, and computes the fingerprint of what passed.
///
/// A tensor's hash is that of its path, its shape and at most 1024 of its elements, evenly spread, the first and the last
/// among them, as float32 bit patterns. It belongs directly over a file, beneath what casts or quantizes: then the numbers are the
/// file's own.
///
/// - Memory: at most 4 kB a tensor, its samples.
public final class FingerprintingSource: ParameterSource {
    private let base: any ParameterSource
    private var passed: [String: Sample] = [:]

    /// The most elements of a tensor that its hash depends on.
    private static let numSamples = 1024

    /// What is known of a tensor: float32 at the sampled elements, zero where they did not pass here.
    private struct Sample {
        let shape: [Int]
        var values: Tensor
        let isWhole: Bool
    }

    /// Decorates a source.
    public init(_ base: any ParameterSource) {
        self.base = base
    }

    /// The tensor of the other source; its samples are kept.
    ///
    /// - Throws: the other source's error.
    /// - Complexity: 1024 elements are read.
    public func tensor(at path: String, shape: [Int]) throws -> Tensor {
        let tensor = try base.tensor(at: path, shape: shape)
        try note(tensor, at: path)
        return tensor
    }

    /// Keeps the samples of a tensor that is on its way.
    ///
    /// - Throws: `TorchError` if memory does not suffice.
    package func note(_ tensor: Tensor, at path: String) throws(TorchError) {
        let (shape, count) = (tensor.shape, tensor.numElements)
        var values = try tensor.reshape([count])
        if let indices = Self.indices(count) {
            values = try values.indexSelected(0, Tensor(indices, shape: [indices.count]))
        }
        passed[path] = Sample(shape: shape, values: try values.to(.float32).clone(), isWhole: true)
    }

    /// Elements of the other source; the samples among them are kept.
    ///
    /// - Throws: the other source's error.
    public func elements(_ range: Range<Int>, at path: String, shape: [Int]) throws -> Tensor {
        let elements = try base.elements(range, at: path, shape: shape)
        let count = shape.reduce(1, *)
        let indices = Self.indices(count) ?? Array(0..<Int64(count))
        let inside = indices.indices.filter { range.contains(Int(indices[$0])) }
        // A large tensor may pass in pieces.
        let before = passed[path].flatMap { $0.isWhole ? nil : $0.values }
        let values = try before ?? Tensor.zeros([indices.count])
        if let first = inside.first {
            let offsets = inside.map { indices[$0] - Int64(range.lowerBound) }
            let found = try elements.indexSelected(0, Tensor(offsets, shape: [offsets.count]))
            try values.narrow(0, first, inside.count).copyInPlace(from: found)
        }
        passed[path] = Sample(shape: shape, values: values, isWhole: false)
        return elements
    }

    /// Gets from the other processes the samples of which each has read its own.
    ///
    /// - Throws: what the placement throws.
    public func complete(with placement: any TensorPlacement) throws {
        let partial = passed.filter { !$0.value.isWhole }.sorted { $0.key < $1.key }
        guard !partial.isEmpty else { return }
        let all = try Tensor.concatenated(partial.map(\.value.values))
        try placement.complete(all, of: "samples of the base model")
        var start = 0
        for (path, sample) in partial {
            let count = sample.values.numElements
            passed[path] = Sample(
                shape: sample.shape, values: try all.narrow(0, start, count), isWhole: true)
            start += count
        }
    }

    /// The fingerprint of all tensors that passed, in whatever order, each counted once.
    ///
    /// - Precondition: they passed whole, or ``complete(with:)`` was called.
    public var fingerprint: BaseFingerprint {
        get throws {
            let version = UInt64(BaseFingerprint.version)
            let ordered = passed.sorted { $0.key < $1.key }
            let hashes = try ordered.map { path, sample in
                precondition(sample.isWhole, "\(path) was read in part")
                let bits = try sample.values.floats().map { Int($0.bitPattern) }
                let content = [sample.shape.count] + sample.shape + bits
                let hash = StableHash.of(StableHash.of(version, path), content)
                return Int(truncatingIfNeeded: hash)
            }
            let digest = String(StableHash.of(version, hashes), radix: 16)
            return BaseFingerprint(
                digest: String(repeating: "0", count: 16 - digest.count) + digest,
                numTensors: ordered.count,
                numElements: ordered.reduce(0) { $0 + $1.value.shape.reduce(1, *) })
        }
    }

    /// The sampled elements of a tensor, evenly spread, the first and the last among them; nil for all.
    private static func indices(_ count: Int) -> [Int64]? {
        guard count > numSamples else { return nil }
        return (0..<numSamples).map { Int64($0 * (count - 1) / (numSamples - 1)) }
    }
}
