import CKernels
public import Torch

/// The scales of a 4-bit tensor: one float32 a block, or 8-bit codes of them.
public enum Absmax {
    /// float32 `[numBlocks]`.
    case plain(Tensor)
    /// Quantized once more (double quantization).
    case nested(NestedAbsmax)

    /// Bytes in memory.
    public var sizeBytes: Int {
        switch self {
        case .plain(let absmax): absmax.sizeBytes
        case .nested(let nested): nested.sizeBytes
        }
    }

    /// The scales as float32 `[numBlocks]`.
    ///
    /// - Throws: `TorchError` if memory does not suffice.
    public func decoded() throws(TorchError) -> Tensor {
        switch self {
        case .plain(let absmax): absmax
        case .nested(let nested): try nested.decoded()
        }
    }
}

extension Absmax {
    /// The same scales on a device.
    func moved(to device: Device) throws(TorchError) -> Absmax {
        switch self {
        case .plain(let absmax): .plain(try absmax.to(device))
        case .nested(let nested):
            .nested(
                NestedAbsmax(
                    codes: try nested.codes.to(device), scales: try nested.scales.to(device),
                    codebook: try nested.codebook.to(device), offset: nested.offset))
        }
    }

    /// The scales of some blocks, no longer quantized.
    func blocks(_ range: Range<Int>) throws(TorchError) -> Absmax {
        switch self {
        case .plain(let absmax): .plain(try absmax.narrow(0, range.lowerBound, range.count))
        case .nested(let nested): .plain(try nested.decoded(range))
        }
    }

    /// The tensors that ``source(_:)`` takes the addresses of.
    var parts: [Tensor] {
        switch self {
        case .plain(let absmax): [absmax]
        case .nested(let nested): [nested.scales, nested.codes, nested.codebook]
        }
    }

    /// The scales as kernels read them.
    func source(_ addresses: ArraySlice<UnsafeMutableRawPointer?>) -> CKernelsScales {
        func floats(_ offset: Int) -> UnsafePointer<Float>? {
            UnsafePointer(
                addresses[addresses.startIndex + offset]?.assumingMemoryBound(to: Float.self))
        }
        guard case .nested(let nested) = self else {
            return CKernelsScales(
                scales: floats(0), codes: nil, levels: nil, block_size: 0, offset: 0)
        }
        let codes = addresses[addresses.startIndex + 1]?.assumingMemoryBound(to: UInt8.self)
        return CKernelsScales(
            scales: floats(0), codes: codes, levels: floats(2),
            block_size: Int64(NestedAbsmax.blockSize), offset: nested.offset)
    }
}

/// Scales as 8-bit codes: `absmax[b] ~ codebook[codes[b]] * scales[b / 256] + offset`.
///
/// `offset` is the mean of all scales; the rest is symmetric enough for a signed codebook.
///
/// - Source: Dettmers et al. 2023 (QLoRA), section 3, "Double Quantization"; bitsandbytes 0.50.2
///   `functional.py:quantize_4bit(compress_statistics=True)`, and its CPU library, which looks values up by one of 65,536
///   levels; same bytes.
public struct NestedAbsmax {
    /// Scales that share one second-level scale.
    public static let blockSize = 256

    /// uint8 `[numBlocks]`.
    public let codes: Tensor
    /// The second level: float32 `[numBlocks / 256]`, rounded up.
    public let scales: Tensor
    /// float32 `[256]`, ascending.
    public let codebook: Tensor
    /// The mean that was subtracted.
    public let offset: Float

    /// Takes over scales that a checkpoint holds; `FourBitTensor` checks their sizes.
    public init(codes: Tensor, scales: Tensor, codebook: Tensor, offset: Float) {
        self.codes = codes
        self.scales = scales
        self.codebook = codebook
        self.offset = offset
    }

    /// Quantizes scales.
    ///
    /// - Parameter absmax: float32 `[numBlocks]`, finite.
    /// - Throws: `TorchError` if memory does not suffice.
    public init(quantizing absmax: Tensor) throws(TorchError) {
        let count = absmax.numElements
        codes = try .empty([count], dtype: .uint8)
        scales = try .empty([(count + Self.blockSize - 1) / Self.blockSize])
        codebook = try Self.makeCodebook()
        // libtorch's mean, because its order of summation decides the last bits.
        offset = Float(try absmax.mean().item())
        absmax.withUnsafeBytes { input in
            codes.withUnsafeMutableBytes { codes in
                scales.withUnsafeMutableBytes { scales in
                    ckernels_eightbit_quantize(
                        DynamicMap.codebook, input.bindMemory(to: Float.self).baseAddress,
                        Int64(count), Int64(Self.blockSize), offset,
                        codes.bindMemory(to: UInt8.self).baseAddress,
                        scales.bindMemory(to: Float.self).baseAddress)
                }
            }
        }
    }

    /// The levels as a tensor.
    static func makeCodebook() throws(TorchError) -> Tensor {
        try Tensor(DynamicMap.codebook, shape: [DynamicMap.codebook.count])
    }

    /// What the kernel decodes, in libtorch's operations.
    private func decodedOnDevice() throws(TorchError) -> Tensor {
        let count = codes.numElements
        let levels = try codebook.indexSelected(0, codes.to(.int32))
        let all = try scales.unsqueezed(1).expanded([scales.numElements, Self.blockSize])
        return try levels * all.reshape([-1]).narrow(0, 0, count) + Double(offset)
    }

    /// Bytes in memory.
    public var sizeBytes: Int { codes.sizeBytes + scales.sizeBytes + codebook.sizeBytes }

    /// The scales of some blocks as float32 `[range.count]`.
    func decoded(_ range: Range<Int>) throws(TorchError) -> Tensor {
        let first = range.lowerBound / Self.blockSize
        let last = (range.upperBound + Self.blockSize - 1) / Self.blockSize
        let (start, end) = (first * Self.blockSize, min(last * Self.blockSize, codes.numElements))
        let part = NestedAbsmax(
            codes: try codes.narrow(0, start, end - start),
            scales: try scales.narrow(0, first, last - first), codebook: codebook, offset: offset)
        return try part.decoded().narrow(0, range.lowerBound - start, range.count)
    }

    /// The scales as float32 `[numBlocks]`.
    ///
    /// - Throws: `TorchError` if memory does not suffice.
    public func decoded() throws(TorchError) -> Tensor {
        guard codes.device.isHost else { return try decodedOnDevice() }
        let output = try Tensor.empty([codes.numElements])
        guard !DryRun.isOn else { return output }
        output.withUnsafeMutableBytes { output in
            codes.withUnsafeBytes { codes in
                scales.withUnsafeBytes { scales in
                    codebook.withUnsafeBytes { codebook in
                        ckernels_eightbit_dequantize(
                            codebook.bindMemory(to: Float.self).baseAddress,
                            codes.bindMemory(to: UInt8.self).baseAddress,
                            scales.bindMemory(to: Float.self).baseAddress, Int64(codes.count),
                            Int64(Self.blockSize), offset,
                            output.bindMemory(to: Float.self).baseAddress)
                    }
                }
            }
        }
        return output
    }
}
