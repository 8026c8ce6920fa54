import CKernels
package import PEFTLayers
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
    /// The two levels of each byte of codes, float32 `[256, 2]`, where codes are on a device; nil in host memory.
    private let levels: Tensor?

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
        levels = try torch { () throws(TorchError) in
            packed.device.isHost ? nil : try quantType.levelsOfBytes().to(packed.device)
        }
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
        do {
            try self.init(
                path: path, shape: tensor.shape, config: config, placement: WholePlacement()
            ) { _ in try tensor.detach().contiguous() }
        } catch let error as QuantizationError {
            throw error
        } catch let error as TorchError {
            throw .torch(error)
        } catch {
            preconditionFailure("neither the tensor nor its place throws anything else: \(error)")
        }
    }

    /// Quantizes what this process keeps of a tensor, and agrees with the others on the rest.
    ///
    /// The bytes are those that one process makes of the whole tensor: each block is quantized by the process that keeps its
    /// codes, then every process gets all scales, from which each makes the same second level.
    ///
    /// - Parameters:
    ///   - path: the tensor's name, for errors and for the placement.
    ///   - shape: of the whole tensor.
    ///   - config: codebook, block size, double quantization.
    ///   - placement: where codes and scales go.
    ///   - numElementsOfPiece: the most elements that are read at once, whole blocks; experts' weights are one tensor of gigabytes.
    ///   - read: the elements of a range, row-major over the whole: float32, bfloat16 or float16.
    /// - Throws: `QuantizationError`; what `placement` and `read` throw.
    /// - Memory: what is kept, the elements that are read at once, and four bytes a block.
    package init(
        path: String, shape: [Int], config: QuantizationConfig, placement: any TensorPlacement,
        numElementsOfPiece: Int = 1 << 26, read: (Range<Int>) throws -> Tensor
    ) throws {
        let codec = try FourBitCodec(quantType: config.quantType, blockSize: config.blockSize)
        let count = shape.reduce(1, *)
        let numBlocks = codec.numBlocks(count)
        let codes = try placement.place(
            PlacedShape(
                path: path, shape: [(count + 1) / 2], dtype: .uint8,
                granule: config.blockSize / 2))
        let absmax = try AbsmaxPlaces(
            path, numBlocks: numBlocks, isNested: config.usesDoubleQuantization, placement)
        let elements =
            min(2 * codes.range.lowerBound, count)..<min(2 * codes.range.upperBound, count)
        let plain = placement.isPlan ? nil : try Tensor.zeros([numBlocks])
        let sourceDType = try Self.forEachPiece(of: elements, most: numElementsOfPiece) { piece in
            let input = try read(piece)
            guard FourBitCodec.dtypes.contains(input.dtype) else {
                throw QuantizationError.unsupportedDType(path: path, found: input.dtype)
            }
            if let plain, let own = codes.own {
                let target = try own.narrow(
                    0, (piece.lowerBound - elements.lowerBound) / 2, (piece.count + 1) / 2)
                try codec.quantize(input, piece, of: path, packed: target, absmax: plain)
            }
            return input.dtype
        }
        var scales: Absmax?
        if let plain {
            try placement.complete(plain, of: path)
            scales =
                config.usesDoubleQuantization
                ? .nested(try NestedAbsmax(quantizing: plain)) : .plain(plain)
        }
        try self.init(
            path: path, quantType: config.quantType, blockSize: config.blockSize, shape: shape,
            sourceDType: sourceDType, packed: codes.whole, absmax: try absmax.fill(with: scales))
    }

    /// Calls `body` for a range in pieces of at most so many elements, one after the other; once for an empty range.
    private static func forEachPiece<Result>(
        of elements: Range<Int>, most count: Int, _ body: (Range<Int>) throws -> Result
    ) rethrows -> Result {
        var start = elements.lowerBound
        while elements.upperBound - start > count {
            _ = try body(start..<start + count)
            start += count
        }
        return try body(start..<elements.upperBound)
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
        if let levels {
            return try decodedOnDevice(levels: levels, scales: scales, dtype: dtype)
        }
        let output = try Tensor.empty(shape, dtype: dtype)
        guard !DryRun.isOn else { return output }
        packed.withUnsafeBytes { packed in
            scales.withUnsafeBytes { scales in
                output.withUnsafeMutableBytes { output in
                    Profile.range("dequantize") {
                        codec.dequantize(
                            packed, absmax: scales.bindMemory(to: Float.self), into: output,
                            dtype: dtype)
                    }
                }
            }
        }
        return output
    }

    /// The same codes and scales on a device; self if they are there.
    ///
    /// - Throws: `TorchError` if the device cannot be used or its memory does not suffice.
    /// - Memory: a copy of codes and scales.
    package func moved(to device: Device) throws(TorchError) -> FourBitTensor {
        guard packed.device != device else { return self }
        return FourBitTensor(
            self, shape: shape, packed: try packed.to(device), absmax: try absmax.moved(to: device),
            levels: device.isHost ? nil : try codec.quantType.levelsOfBytes().to(device))
    }

    /// A tensor of the same format over other codes and scales.
    private init(
        _ other: FourBitTensor, shape: [Int], packed: Tensor, absmax: Absmax, levels: Tensor?
    ) {
        (codec, sourceDType) = (other.codec, other.sourceDType)
        (self.shape, self.packed, self.absmax, self.levels) = (shape, packed, absmax, levels)
    }

    /// What kernels decode, in libtorch's operations: the levels of each byte by lookup, times the scale of their block.
    ///
    /// - Memory: besides the result fourteen bytes for two elements.
    private func decodedOnDevice(
        levels: Tensor, scales: Tensor, dtype: DType
    ) throws(TorchError) -> Tensor {
        let bytes = try packed.reshape([-1]).to(.int32)
        let values = try levels.indexSelected(0, bytes).reshape([-1])
        let (numFull, rest) = numElements.quotientAndRemainder(dividingBy: blockSize)
        let full = try values.narrow(0, 0, numFull * blockSize).reshape([numFull, blockSize])
        var parts = [try (full * scales.narrow(0, 0, numFull).unsqueezed(1)).reshape([-1])]
        if rest > 0 {
            let last = try values.narrow(0, numFull * blockSize, rest)
            parts.append(try last * scales.narrow(0, numFull, 1))
        }
        let all = parts.count == 1 ? parts[0] : try Tensor.concatenated(parts)
        return try all.to(dtype).reshape(shape)
    }

    /// The tensor's rows, all dimensions but the last counted as one.
    var numRows: Int { shape.dropLast().reduce(1, *) }
    /// The elements of a row.
    var numColumns: Int { shape.last ?? 1 }

    /// Some rows in a float dtype, as ``dequantized(to:)`` gives them.
    ///
    /// - Parameters:
    ///   - rows: within `0..<numRows`; they may begin and end within a block.
    ///   - dtype: float32, bfloat16 or float16.
    /// - Returns: `[rows.count, numColumns]`.
    /// - Throws: `TorchError` for another dtype, or if memory does not suffice.
    func dequantized(rows: Range<Int>, to dtype: DType) throws(TorchError) -> Tensor {
        let elements = rows.lowerBound * numColumns..<rows.upperBound * numColumns
        guard elements != 0..<numElements else {
            return try dequantized(to: dtype).reshape([numRows, numColumns])
        }
        let blocks = elements.lowerBound / blockSize..<codec.numBlocks(elements.upperBound)
        let end = min(blocks.upperBound * blockSize, numElements)
        let covered = blocks.lowerBound * blockSize..<end
        let codes = try packed.reshape([-1])
            .narrow(0, covered.lowerBound / 2, (covered.count + 1) / 2)
        let part = FourBitTensor(
            self, shape: [covered.count], packed: codes, absmax: try absmax.blocks(blocks),
            levels: levels)
        return try part.dequantized(to: dtype)
            .narrow(0, elements.lowerBound - covered.lowerBound, elements.count)
            .reshape([rows.count, numColumns])
    }

    /// Some rows as kernels read them; scales that are quantized themselves are decoded one by one.
    package func panels(rows: Range<Int>) -> WeightPanels {
        WeightPanels(owners: [packed] + absmax.parts) { addresses in
            ckernels_panels_fourbit(
                quantType.codebook, addresses[0], absmax.source(addresses[1...]), Int64(blockSize),
                Int64(rows.lowerBound), Int64(rows.count), Int64(numColumns))
        }
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

extension FourBitCodec {
    /// Codes the elements of a range of blocks.
    ///
    /// - Parameters:
    ///   - input: the elements, `[elements.count]`.
    ///   - elements: where they are in the tensor; begins with a block.
    ///   - path: the tensor's name.
    ///   - packed: the codes of these elements.
    ///   - absmax: one float a block of the whole tensor.
    /// - Throws: `QuantizationError.notFinite`.
    fileprivate func quantize(
        _ input: Tensor, _ elements: Range<Int>, of path: String, packed: Tensor, absmax: Tensor
    ) throws(QuantizationError) {
        let firstBlock = elements.lowerBound / blockSize
        let numBlocks = numBlocks(elements.count)
        let dtype = input.dtype
        let invalidBlock = input.withUnsafeBytes { input in
            packed.withUnsafeMutableBytes { packed in
                absmax.withUnsafeMutableBytes { absmax in
                    let all = absmax.bindMemory(to: Float.self)
                    return quantize(
                        input, dtype: dtype, packed: packed,
                        absmax: .init(rebasing: all[firstBlock..<(firstBlock + numBlocks)]))
                }
            }
        }
        guard let invalidBlock else { return }
        throw .notFinite(
            path: path,
            elements: self.elements(
                ofBlock: firstBlock + invalidBlock, of: elements.upperBound))
    }
}
