package import PEFTLayers
package import Torch

/// Which elements of a tensor are kept, as bytes 0 and 1.
///
/// The bits are those of SplitMix64 in counter mode, 16 for an element: cheaper than libtorch's generators, and each block is
/// computed on its own. The mask depends on the key and the path alone, so recomputation repeats it.
///
/// - Source: Steele, Lea, Flood 2014, "Fast Splittable Pseudorandom Number Generators".
package struct DropoutMask {
    /// Bool, the shape that was asked for.
    package let kept: Tensor
    /// What kept elements are multiplied with, so that the mean stays: `1 / P(kept)`.
    package let scale: Double

    /// Draws a mask.
    ///
    /// - Parameters:
    ///   - probability: of an element being dropped, in [0, 1); taken to the nearest 1/65536.
    ///   - shape: the shape of the tensor to mask.
    ///   - key: names the forward pass.
    ///   - path: names the layer.
    /// - Throws: `TorchError` if libtorch cannot allocate.
    /// - Memory: one byte an element.
    package init(
        probability: Double, shape: [Int], key: DropoutKey, path: String
    ) throws(TorchError) {
        let numDropped = min(UInt64((probability * 65536).rounded()), 65535)
        let seed = key.seed(for: path)
        kept = try Tensor.empty(shape, dtype: .bool)
        scale = 65536 / Double(65536 - numDropped)
        guard !DryRun.isOn else { return }
        kept.withUnsafeMutableBytes { bytes in
            Self.fill(bytes, numDropped: numDropped, seed: seed)
        }
    }

    /// The tensor with dropped elements zero; kept ones are not scaled.
    func applied(to tensor: Tensor) throws(TorchError) -> Tensor { try tensor * kept }

    private static func fill(
        _ bytes: UnsafeMutableRawBufferPointer, numDropped: UInt64, seed: UInt64
    ) {
        let numBlocks = bytes.count / 4
        for block in 0..<numBlocks {
            let bits = bits(of: block, seed: seed)
            bytes[4 * block] = (bits & 0xffff) >= numDropped ? 1 : 0
            bytes[4 * block + 1] = ((bits >> 16) & 0xffff) >= numDropped ? 1 : 0
            bytes[4 * block + 2] = ((bits >> 32) & 0xffff) >= numDropped ? 1 : 0
            bytes[4 * block + 3] = (bits >> 48) >= numDropped ? 1 : 0
        }
        var last = bits(of: numBlocks, seed: seed)
        for index in 4 * numBlocks..<bytes.count {
            bytes[index] = (last & 0xffff) >= numDropped ? 1 : 0
            last >>= 16
        }
    }

    /// Random bits for four elements.
    private static func bits(of block: Int, seed: UInt64) -> UInt64 {
        var bits = seed &+ UInt64(truncatingIfNeeded: block + 1) &* 0x9e37_79b9_7f4a_7c15
        bits = (bits ^ (bits >> 30)) &* 0xbf58_476d_1ce4_e5b9
        bits = (bits ^ (bits >> 27)) &* 0x94d0_49bb_1331_11eb
        return bits ^ (bits >> 31)
    }
}
