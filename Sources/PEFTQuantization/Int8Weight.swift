public import PEFTLayers
public import Torch

/// The frozen weight of a linear layer in 8 bits, as LLM.int8 stores it: `W[i, j] = code[i, j] (scale[i] / 127)`.
///
/// `y = x W^T` with the decoded weight, rounded to the dtype of the product; what is added to it is never quantized. It is read from
/// folders only: a weight is not made of another one here.
///
/// - Source: Dettmers et al. 2022, "LLM.int8()", equation 3; bitsandbytes 0.50.2 `autograd/_functions.py:MatMul8bitFp`, with which
///   bitsandbytes trains on a CPU.
///
/// Differs from bitsandbytes: in evaluation and on a GPU it quantizes the layer's input, too, row by row, but for the columns in which an
/// element is above the threshold (`MatMul8bitLt`). That is an approximation of the product here.
public final class Int8Weight: LinearWeight {
    /// The codes, int8 `[outFeatures, inFeatures]`.
    private let matrix: Tensor
    /// The largest absolute value of each row, float32 `[outFeatures]`.
    private let scales: Tensor

    /// What divides the scales: the largest code.
    package static let largestCode: Float = 127

    /// Takes over what a checkpoint holds.
    ///
    /// - Parameters:
    ///   - path: the weight's name, for errors.
    ///   - codes: int8 `[outFeatures, inFeatures]`.
    ///   - scales: float32 `[outFeatures]`.
    /// - Throws: `QuantizationError` naming the part with the wrong size or dtype.
    public convenience init(
        path: String, codes: Tensor, scales: Tensor
    ) throws(QuantizationError) {
        precondition(codes.shape.count == 2, "a linear weight has two dimensions")
        guard codes.dtype == .int8 else {
            throw .dtypeMismatch(path: path, what: "codes", expected: .int8, found: codes.dtype)
        }
        guard scales.dtype == .float32 else {
            throw .dtypeMismatch(path: path, what: "SCB", expected: .float32, found: scales.dtype)
        }
        guard scales.shape == [codes.shape[0]] else {
            throw .sizeMismatch(
                path: path, what: "SCB", expected: codes.shape[0], found: scales.numElements)
        }
        self.init(codes, scales)
    }

    private init(_ matrix: Tensor, _ scales: Tensor) {
        self.matrix = matrix
        self.scales = scales
    }

    /// Rows of the weight.
    public var outFeatures: Int { matrix.shape[0] }
    /// Columns of the weight.
    public var inFeatures: Int { matrix.shape[1] }
    /// The storage's name.
    public var storageDescription: String { QuantizedStorage.int8.description }
    /// The codes.
    public var codes: [Tensor] { [matrix] }
    /// Bytes of codes and scales.
    public var sizeBytes: Int { matrix.sizeBytes + scales.sizeBytes }
    /// Where the codes are.
    public var device: Device { matrix.device }

    /// The same codes and scales on a device.
    public func moved(to device: Device) throws(TorchError) -> any LinearWeight {
        guard self.device != device else { return self }
        return Int8Weight(try matrix.to(device), try scales.to(device))
    }

    /// Views of the rows.
    public func rows(_ range: Range<Int>) throws(TorchError) -> any LinearWeight {
        Int8Weight(
            try matrix.narrow(0, range.lowerBound, range.count),
            try scales.narrow(0, range.lowerBound, range.count))
    }

    /// `y = x W^T`, differentiable with respect to x.
    ///
    /// - Parameters:
    ///   - input: `[..., inFeatures]`; float32, bfloat16 or float16.
    ///   - outputDType: the input's dtype, or float32 for sums that are not rounded.
    /// - Returns: `[..., outFeatures]` in that dtype.
    /// - Throws: `TorchError` if the shapes do not fit.
    /// - Memory: the weight in `Tensor.productDType(into:)` during the product, in `Tensor.productDType` in backward; for a moment in
    ///   float32 besides.
    public func apply(to input: Tensor, outputDType: DType) throws(TorchError) -> Tensor {
        let (matrix, scales) = (matrix, scales)
        return try decodedProduct("8-bit linear", of: input, outputDType: outputDType) {
            dtype throws(TorchError) in
            try Self.decoded(matrix, scales).to(dtype)
        }
    }

    /// The weight as float32, `[outFeatures, inFeatures]`.
    public func dequantized() throws(TorchError) -> Tensor { try Self.decoded(matrix, scales) }

    /// Rows of codes as float32.
    ///
    /// - Parameters:
    ///   - codes: int8 `[rows, columns]`.
    ///   - scales: float32 `[rows]`.
    /// - Returns: float32 of the shape of the codes.
    /// - Throws: `TorchError` if memory does not suffice.
    package static func decoded(_ codes: Tensor, _ scales: Tensor) throws(TorchError) -> Tensor {
        try codes.to(.float32) * (scales * Double(1 / largestCode)).unsqueezed(1)
    }
}

/// An 8-bit weight that somebody else holds: its shape, and how to get its parts.
package struct Int8Parts {
    /// `[outFeatures, inFeatures]`.
    package let shape: [Int]
    /// The dtype of the model's other numbers.
    package let sourceDType: DType
    /// A range of codes, int8 `[range.count]`.
    package let codes: (Range<Int>) throws -> Tensor
    /// All scales.
    package let scales: () throws -> Tensor

    /// Describes a weight.
    package init(
        shape: [Int], sourceDType: DType, codes: @escaping (Range<Int>) throws -> Tensor,
        scales: @escaping () throws -> Tensor
    ) {
        self.shape = shape
        self.sourceDType = sourceDType
        self.codes = codes
        self.scales = scales
    }
}

extension Int8Weight {
    /// Takes over what this process keeps of a weight.
    ///
    /// - Parameters:
    ///   - path: the weight's name, for errors and for the placement.
    ///   - parts: the weight.
    ///   - placement: where codes and scales go.
    ///   - read: called with the elements whose codes this process keeps.
    /// - Throws: `QuantizationError`; what `placement`, `parts` and `read` throw.
    /// - Memory: what is kept.
    package convenience init(
        path: String, _ parts: Int8Parts, placement: any TensorPlacement,
        read: (Range<Int>) throws -> Void
    ) throws {
        let codes = try placement.place(PlacedShape(path: path, shape: parts.shape, dtype: .int8))
        let scales = try placement.place(
            PlacedShape(path: path, part: "SCB", shape: [parts.shape[0]], dtype: .float32))
        if !placement.isPlan {
            try withoutGrad {
                try codes.own?.copyInPlace(from: parts.codes(codes.range))
                if let own = scales.own {
                    let range = scales.range
                    try own.copyInPlace(
                        from: parts.scales().narrow(0, range.lowerBound, range.count))
                }
            }
            try read(codes.range)
        }
        try self.init(path: path, codes: codes.whole, scales: scales.whole)
    }
}
