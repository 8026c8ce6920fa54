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
    ///   - device: where the mask is used; it is drawn in host memory, so that it is the same everywhere.
    /// - Throws: `TorchError` if libtorch cannot allocate.
    /// - Memory: one byte an element.
    package init(
        probability: Double, shape: [Int], key: DropoutKey, path: String,
        on device: Device = .cpu
    ) throws(TorchError) {
        let numDropped = UInt16(min((probability * 65536).rounded(), 65535))
        kept = try ElementwiseKernels().dropoutMask(
            shape, numDropped: numDropped, seed: key.seed(for: path)
        ).to(device)
        scale = 65536 / (65536 - Double(numDropped))
    }

    /// The tensor with dropped elements zero; kept ones are not scaled.
    func applied(to tensor: Tensor) throws(TorchError) -> Tensor {
        try ElementwiseKernels().masked(tensor, kept: kept)
    }
}

extension DropoutMask {
    /// Dropout of a tensor as an operation with gradient: `kept x / P(kept)`.
    ///
    /// - Throws: `TorchError` if memory does not suffice.
    /// - Memory: one byte an element until backward.
    func dropout(_ tensor: Tensor) throws(TorchError) -> Tensor {
        let outputs = try Autograd.node("dropout", inputs: [tensor]) {
            () throws(TorchError) -> (outputs: [Tensor], pullback: Pullback) in
            let pullback: Pullback = { gradients throws(TorchError) in
                guard let gradient = gradients[0] else { return [nil] }
                return [try applied(to: gradient.contiguous()) * scale]
            }
            return ([try applied(to: tensor.detach()) * scale], pullback)
        }
        return outputs[0]
    }
}
