import CKernels
package import PEFTLayers
public import Torch

// The cases have ggml's names.
// swift-format-ignore: AlwaysUseLowerCamelCase
/// How a GGUF file stores the elements of a tensor; raw values are ggml's type ids.
///
/// - Source: ggml `ggml-common.h`; gguf 0.19.0 `quants.py`, whose decoded bits are repeated exactly.
public enum GGUFBlockFormat: UInt32, CaseIterable, Sendable {
    case f32 = 0
    case f16 = 1
    case q4_0 = 2
    case q4_1 = 3
    case q5_0 = 6
    case q5_1 = 7
    case q8_0 = 8
    case bf16 = 30

    /// The name in GGUF tools: `Q4_1`.
    public var name: String { String(describing: self).uppercased() }

    /// Elements of a block.
    public var blockSize: Int {
        switch self {
        case .f32, .f16, .bf16: 1
        case .q4_0, .q4_1, .q5_0, .q5_1, .q8_0: 32
        }
    }

    /// Bytes of a block: a float16 scale, perhaps a float16 minimum, codes.
    public var bytesPerBlock: Int {
        switch self {
        case .f32: 4
        case .f16, .bf16: 2
        case .q4_0: 2 + 16
        case .q4_1: 2 + 2 + 16
        case .q5_0: 2 + 4 + 16
        case .q5_1: 2 + 2 + 4 + 16
        case .q8_0: 2 + 32
        }
    }

    /// Bytes of a tensor.
    ///
    /// - Throws: `QuantizationError.partialBlock` if the elements do not fill blocks.
    public func sizeBytes(numElements: Int) throws(QuantizationError) -> Int {
        guard numElements.isMultiple(of: blockSize) else {
            throw .partialBlock(format: name, numElements: numElements, blockSize: blockSize)
        }
        return numElements / blockSize * bytesPerBlock
    }

    /// Decodes a tensor.
    ///
    /// - Parameters:
    ///   - bytes: the blocks as the file has them; any alignment.
    ///   - shape: sizes, slowest dimension first (the reverse of the file's order).
    ///   - path: the tensor's name, for errors.
    /// - Returns: float32 of that shape.
    /// - Throws: `QuantizationError` if bytes and shape do not fit.
    /// - Memory: four bytes an element.
    public func decoded(
        _ bytes: UnsafeRawBufferPointer, shape: [Int], path: String
    ) throws(QuantizationError) -> Tensor {
        let numElements = shape.reduce(1, *)
        let expected = try sizeBytes(numElements: numElements)
        guard bytes.count == expected else {
            throw .sizeMismatch(
                path: path, what: "\(name) blocks", expected: expected, found: bytes.count)
        }
        let output = try torch { () throws(TorchError) in try Tensor.empty(shape) }
        output.withUnsafeMutableBytes { decode(bytes, into: $0) }
        return output
    }

    /// Decodes blocks to float32.
    ///
    /// - Precondition: the output holds all elements of whole blocks.
    package func decode(
        _ bytes: UnsafeRawBufferPointer, into output: UnsafeMutableRawBufferPointer,
        parallelism: BlockParallelism = .automatic
    ) {
        let numBlocks = bytes.count / bytesPerBlock
        precondition(bytes.count == numBlocks * bytesPerBlock)
        precondition(output.count == numBlocks * blockSize * DType.float32.sizeBytes)
        parallelism.forEachRange(of: numBlocks, numElements: numBlocks * blockSize) { blocks in
            let status = ckernels_gguf_decode(
                Int32(rawValue), bytes.bindMemory(to: UInt8.self).baseAddress,
                Int64(blocks.lowerBound), Int64(blocks.upperBound),
                output.bindMemory(to: Float.self).baseAddress)
            precondition(status == 0, "the kernel does not know \(name)")
        }
    }
}
