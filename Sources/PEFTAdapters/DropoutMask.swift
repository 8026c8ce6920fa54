import PEFTLayers
import Torch

/// Which elements of a tensor are kept, as bytes 0 and 1.
///
/// The bits are those of SplitMix64 in counter mode, 16 for an element: a tenth of the time of libtorch's `bernoulli_`, and
/// the same whatever the number of threads. The mask depends on the key and the path alone, so recomputation repeats it.
///
/// - Source: Steele, Lea, Flood 2014, "Fast Splittable Pseudorandom Number Generators".
struct DropoutMask {
    /// Bool, the shape that was asked for.
    let kept: Tensor
    /// What kept elements are multiplied with, so that the mean stays: `1 / P(kept)`.
    let scale: Double

    /// Draws a mask.
    ///
    /// - Parameters:
    ///   - probability: of an element being dropped, in [0, 1); taken to the nearest 1/65536.
    ///   - shape: the shape of the tensor to mask.
    ///   - key: names the forward pass.
    ///   - path: names the layer.
    /// - Throws: `TorchError` if libtorch cannot allocate.
    /// - Memory: one byte an element.
    init(
        probability: Double, shape: [Int], key: DropoutKey, path: String
    ) throws(TorchError) {
        let numDropped = min(UInt64((probability * 65536).rounded()), 65535)
        let seed = StableHash.of(key.seed, path, key.step, key.microBatch)
        kept = try Tensor.empty(shape, dtype: .bool)
        scale = 65536 / Double(65536 - numDropped)
        kept.withUnsafeMutableBytes { bytes in
            Self.fill(bytes, numDropped: numDropped, seed: seed)
        }
    }

    /// The tensor with dropped elements zero; kept ones are not scaled.
    func applied(to tensor: Tensor) throws(TorchError) -> Tensor { try tensor * kept }

    private static func fill(
        _ bytes: UnsafeMutableRawBufferPointer, numDropped: UInt64, seed: UInt64
    ) {
        var counter = seed
        var index = 0
        while index < bytes.count {
            counter &+= 0x9e37_79b9_7f4a_7c15
            var bits = counter
            bits = (bits ^ (bits >> 30)) &* 0xbf58_476d_1ce4_e5b9
            bits = (bits ^ (bits >> 27)) &* 0x94d0_49bb_1331_11eb
            bits ^= bits >> 31
            for _ in 0..<min(4, bytes.count - index) {
                bytes[index] = (bits & 0xffff) >= numDropped ? 1 : 0
                bits >>= 16
                index += 1
            }
        }
    }
}
