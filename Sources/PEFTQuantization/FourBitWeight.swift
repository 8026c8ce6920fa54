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
    /// The codes and scales, of this weight or of a larger one that it is a part of.
    public let tensor: FourBitTensor
    /// The rows of the tensor that are this weight.
    private let range: Range<Int>

    /// Stores a quantized matrix, `[outFeatures, inFeatures]`, or several one below the other, `[experts, outFeatures, inFeatures]`.
    ///
    /// - Precondition: at least two dimensions.
    public convenience init(_ tensor: FourBitTensor) {
        precondition(tensor.shape.count >= 2, "a linear weight has two dimensions")
        self.init(tensor, 0..<tensor.numRows)
    }

    private init(_ tensor: FourBitTensor, _ range: Range<Int>) {
        self.tensor = tensor
        self.range = range
    }

    /// Rows of the weight.
    public var outFeatures: Int { range.count }
    /// Columns of the weight.
    public var inFeatures: Int { tensor.numColumns }
    /// Codebook, block size and double quantization.
    public var storageDescription: String { tensor.storageDescription }
    /// The packed codes.
    public var codes: [Tensor] { [tensor.packed] }
    /// Bytes of codes and scales, those of the whole tensor.
    public var sizeBytes: Int { tensor.sizeBytes }

    /// Where the codes are.
    public var device: Device { tensor.packed.device }

    /// The same codes and scales on a device.
    public func moved(to device: Device) throws(TorchError) -> any LinearWeight {
        guard self.device != device else { return self }
        return FourBitWeight(try tensor.moved(to: device), range)
    }

    /// Some of the rows: the same codes and scales, read from another row on.
    public func rows(_ range: Range<Int>) throws(TorchError) -> any LinearWeight {
        guard range.lowerBound >= 0, range.upperBound <= outFeatures else {
            throw TorchError(
                operation: "rows", operands: [storageDescription],
                message: "rows \(range) of a weight of \(outFeatures)")
        }
        let start = self.range.lowerBound
        return FourBitWeight(tensor, start + range.lowerBound..<start + range.upperBound)
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
        let (tensor, rows) = (tensor, range)
        return try decodedProduct("4-bit linear", of: input, outputDType: outputDType) {
            dtype throws(TorchError) in
            try tensor.dequantized(rows: rows, to: dtype)
        }
    }

    /// The codes, decoded a tile at a time or as they are multiplied; nil on a device, which kernels do not reach.
    public func panels() throws(TorchError) -> WeightPanels? {
        device.isHost ? tensor.panels(rows: range) : nil
    }

    /// The weight as float32, `[outFeatures, inFeatures]`.
    public func dequantized() throws(TorchError) -> Tensor {
        try tensor.dequantized(rows: range, to: .float32)
    }
}
