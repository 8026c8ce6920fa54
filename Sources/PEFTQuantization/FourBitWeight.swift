public import PEFTLayers
public import Torch

/// The frozen weight of a linear layer in 4 bits.
///
/// `y = x W^T`, W decoded to the dtype of x for the product and freed after it; `dx = dy W`, W decoded again. Nothing but the codes is
/// kept for backward, and nothing else gets a gradient.
///
/// - Source: bitsandbytes 0.50.2 `autograd/_functions.py:MatMul4Bit`. Differs from it: the weight is never repacked for
///   inference, and backward decodes to the compute dtype as forward does, not by way of the dtype that was quantized.
public final class FourBitWeight: LinearWeight {
    /// The codes and scales.
    public let tensor: FourBitTensor

    /// Stores a quantized matrix, `[outFeatures, inFeatures]`.
    ///
    /// - Precondition: two dimensions.
    public init(_ tensor: FourBitTensor) {
        precondition(tensor.shape.count == 2, "a linear weight has two dimensions")
        self.tensor = tensor
    }

    /// Rows of the weight.
    public var outFeatures: Int { tensor.shape[0] }
    /// Columns of the weight.
    public var inFeatures: Int { tensor.shape[1] }
    /// Codebook, block size and double quantization.
    public var storageDescription: String { tensor.storageDescription }
    /// The packed codes.
    public var codes: [Tensor] { [tensor.packed] }
    /// Bytes of codes and scales.
    public var sizeBytes: Int { tensor.sizeBytes }

    /// Where the codes are.
    public var device: Device { tensor.packed.device }

    /// The same codes and scales on a device.
    public func moved(to device: Device) throws(TorchError) -> any LinearWeight {
        guard self.device != device else { return self }
        return FourBitWeight(try tensor.moved(to: device))
    }

    /// `y = x W^T`, differentiable with respect to x.
    ///
    /// - Parameters:
    ///   - input: `[..., inFeatures]`; float32, bfloat16 or float16.
    ///   - outputDType: the input's dtype, or float32 for sums that are not rounded.
    /// - Returns: `[..., outFeatures]` in that dtype.
    /// - Throws: `TorchError` if the shapes do not fit.
    /// - Memory: the weight in `Tensor.productDType(into:)` during the product, in `Tensor.productDType` in backward.
    public func apply(to input: Tensor, outputDType: DType) throws(TorchError) -> Tensor {
        let tensor = tensor
        let (dtype, product) = (input.dtype, input.productDType)
        let outputs = try Autograd.node("4-bit linear", inputs: [input]) {
            () throws(TorchError) -> (outputs: [Tensor], pullback: Pullback) in
            let wide = input.productDType(into: outputDType)
            let output = try input.to(wide).linear(tensor.dequantized(to: wide)).to(outputDType)
            let pullback: Pullback = { gradients throws(TorchError) in
                guard let gradient = gradients[0] else { return [nil] }
                let inputGradient = try gradient.to(product).matmul(
                    tensor.dequantized(to: product))
                return [try inputGradient.to(dtype)]
            }
            return ([output], pullback)
        }
        return outputs[0]
    }

    /// The codes, decoded a tile at a time or as they are multiplied; nil on a device, which kernels do not reach.
    public func panels() throws(TorchError) -> WeightPanels? {
        device.isHost ? tensor.panels() : nil
    }

    /// The weight as float32, `[outFeatures, inFeatures]`.
    public func dequantized() throws(TorchError) -> Tensor {
        try tensor.dequantized(to: .float32)
    }
}
