public import Torch

/// A tensor in 4 bits: packed codes and the scales of its blocks, as bitsandbytes stores them.
///
/// `w[i] ~ codebook[code[i]] * absmax[i / blockSize]`, i counting row-major over the whole tensor. Immutable.
public struct FourBitTensor {
    private let codec: FourBitCodec
    /// The shape before packing.
    public let shape: [Int]
    /// The dtype that was quantized; bitsandbytes keeps it as `dtype`.
    public let sourceDType: DType
    /// uint8 `[numElements / 2]`, rounded up; the first element in the high nibble.
    public let packed: Tensor
    /// The scales.
    public let absmax: Absmax

    /// Takes over what a checkpoint holds, and checks that the parts fit together.
    ///
    /// - Parameters:
    ///   - path: the tensor's name, for errors.
    ///   - quantType: the codebook.
    ///   - blockSize: elements of a block.
    ///   - shape: the shape before packing.
    ///   - sourceDType: the dtype that was quantized.
    ///   - packed: uint8, any shape, contiguous.
    ///   - absmax: the scales, contiguous.
    /// - Throws: `QuantizationError` naming the part with the wrong size or dtype.
    public init(
        path: String, quantType: QuantType, blockSize: Int, shape: [Int], sourceDType: DType,
        packed: Tensor, absmax: Absmax
    ) throws(QuantizationError) {
        let codec = try FourBitCodec(quantType: quantType, blockSize: blockSize)
        guard FourBitCodec.dtypes.contains(sourceDType) else {
            throw .unsupportedDType(path: path, found: sourceDType)
        }
        let numElements = shape.reduce(1, *)
        let numBlocks = codec.numBlocks(numElements)
        try Self.check(packed, .uint8, (numElements + 1) / 2, path, "packed codes")
        switch absmax {
        case .plain(let scales):
            try Self.check(scales, .float32, numBlocks, path, "absmax")
        case .nested(let nested):
            let numScales = (numBlocks + NestedAbsmax.blockSize - 1) / NestedAbsmax.blockSize
            try Self.check(nested.codes, .uint8, numBlocks, path, "absmax")
            try Self.check(nested.scales, .float32, numScales, path, "nested_absmax")
            try Self.check(nested.codebook, .float32, 256, path, "nested_quant_map")
        }
        self.codec = codec
        self.shape = shape
        self.sourceDType = sourceDType
        self.packed = packed
        self.absmax = absmax
    }

    /// Quantizes a tensor.
    ///
    /// - Parameters:
    ///   - tensor: float32, bfloat16 or float16, finite.
    ///   - config: codebook, block size, double quantization.
    ///   - path: the tensor's name, for errors.
    /// - Throws: `QuantizationError` for another dtype, or for a NaN or an infinity.
    /// - Memory: half a byte an element and the scales.
    public init(
        quantizing tensor: Tensor, config: QuantizationConfig, path: String = "tensor"
    ) throws(QuantizationError) {
        let codec = try FourBitCodec(quantType: config.quantType, blockSize: config.blockSize)
        guard FourBitCodec.dtypes.contains(tensor.dtype) else {
            throw .unsupportedDType(path: path, found: tensor.dtype)
        }
        let count = tensor.numElements
        let input = try torch { () throws(TorchError) in try tensor.detach().contiguous() }
        let packed = try torch { () throws(TorchError) in
            try Tensor.empty([(count + 1) / 2], dtype: .uint8)
        }
        let scales = try torch { () throws(TorchError) in
            try Tensor.empty([codec.numBlocks(count)])
        }
        let invalidBlock = input.withUnsafeBytes { input in
            packed.withUnsafeMutableBytes { packed in
                scales.withUnsafeMutableBytes { scales in
                    codec.quantize(
                        input, dtype: tensor.dtype, packed: packed,
                        absmax: scales.bindMemory(to: Float.self))
                }
            }
        }
        if let invalidBlock {
            throw .notFinite(
                path: path, elements: codec.elements(ofBlock: invalidBlock, of: count))
        }
        let absmax = try torch { () throws(TorchError) -> Absmax in
            config.usesDoubleQuantization
                ? .nested(try NestedAbsmax(quantizing: scales)) : .plain(scales)
        }
        try self.init(
            path: path, quantType: config.quantType, blockSize: config.blockSize,
            shape: tensor.shape, sourceDType: tensor.dtype, packed: packed, absmax: absmax)
    }

    /// The codebook.
    public var quantType: QuantType { codec.quantType }

    /// Elements of a block.
    public var blockSize: Int { codec.blockSize }

    /// The number of elements before packing.
    public var numElements: Int { shape.reduce(1, *) }

    /// Bytes in memory, scales included.
    public var sizeBytes: Int { packed.sizeBytes + absmax.sizeBytes }

    /// The storage in words: `nf4, block 64, double quantized`.
    public var storageDescription: String {
        let suffix =
            switch absmax {
            case .plain: ""
            case .nested: ", double quantized"
            }
        return "\(quantType.rawValue), block \(blockSize)\(suffix)"
    }

    /// The tensor in a float dtype: the product in float32, rounded once.
    ///
    /// - Parameter dtype: float32, bfloat16 or float16.
    /// - Returns: a new tensor of `shape`.
    /// - Throws: `TorchError` for another dtype, or if memory does not suffice.
    public func dequantized(to dtype: DType) throws(TorchError) -> Tensor {
        guard FourBitCodec.dtypes.contains(dtype) else {
            throw TorchError(
                operation: "dequantize", operands: [storageDescription],
                message: "expected float32, bfloat16 or float16 to compute in, found \(dtype.name)")
        }
        let scales = try absmax.decoded()
        let output = try Tensor.empty(shape, dtype: dtype)
        packed.withUnsafeBytes { packed in
            scales.withUnsafeBytes { scales in
                output.withUnsafeMutableBytes { output in
                    codec.dequantize(
                        packed, absmax: scales.bindMemory(to: Float.self), into: output,
                        dtype: dtype)
                }
            }
        }
        return output
    }

    private static func check(
        _ tensor: Tensor, _ dtype: DType, _ count: Int, _ path: String, _ what: String
    ) throws(QuantizationError) {
        guard tensor.dtype == dtype else {
            throw .dtypeMismatch(path: path, what: what, expected: dtype, found: tensor.dtype)
        }
        guard tensor.numElements == count else {
            throw .sizeMismatch(
                path: path, what: what, expected: count, found: tensor.numElements)
        }
    }
}
