import CKernels
package import PEFTLayers
import Synchronization
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
    case q2_k = 10
    case q3_k = 11
    case q4_k = 12
    case q5_k = 13
    case q6_k = 14
    case iq4_nl = 20
    case iq4_xs = 23
    case bf16 = 30

    /// The name in GGUF tools: `Q4_1`.
    public var name: String { String(describing: self).uppercased() }

    /// Elements of a block.
    public var blockSize: Int {
        switch self {
        case .f32, .f16, .bf16: 1
        case .q4_0, .q4_1, .q5_0, .q5_1, .q8_0, .iq4_nl: 32
        case .q2_k, .q3_k, .q4_k, .q5_k, .q6_k, .iq4_xs: 256
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
        case .iq4_nl: 2 + 16
        // Of 256 elements: scales of groups, float16 scales of these, planes of bits.
        case .q2_k: 16 + 64 + 4
        case .q3_k: 32 + 64 + 12 + 2
        case .q4_k: 4 + 12 + 128
        case .q5_k: 4 + 12 + 32 + 128
        case .q6_k: 128 + 64 + 16 + 2
        case .iq4_xs: 2 + 2 + 4 + 128
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

    // MARK: - Encoding

    /// Encodes numbers.
    ///
    /// - Parameters:
    ///   - values: float32, contiguous, whole blocks.
    ///   - path: the tensor's name, for errors.
    /// - Returns: uint8, the blocks one after another.
    /// - Throws: `QuantizationError` for a NaN, an infinity, or numbers that do not fill blocks.
    /// - Precondition: the format is `.f32`, `.f16`, `.bf16` or `.q8_0`.
    /// - Memory: the result.
    package func encoded(_ values: Tensor, path: String) throws(QuantizationError) -> Tensor {
        let size = try sizeBytes(numElements: values.numElements)
        let output = try torch { () throws(TorchError) in try Tensor.empty([size], dtype: .uint8) }
        let numBlocks = values.numElements / blockSize
        let isFinite = values.withUnsafeBytes { values in
            output.withUnsafeMutableBytes { output in
                let failure = Atomic(false)
                BlockParallelism.automatic.forEachRange(
                    of: numBlocks, numElements: numBlocks * blockSize
                ) { blocks in
                    let status = ckernels_gguf_encode(
                        Int32(rawValue), values.bindMemory(to: Float.self).baseAddress,
                        Int64(blocks.lowerBound), Int64(blocks.upperBound),
                        output.bindMemory(to: UInt8.self).baseAddress)
                    precondition(status != CKERNELS_GGUF_UNKNOWN, "\(name) is not written here")
                    if status == CKERNELS_GGUF_NOT_FINITE {
                        failure.store(true, ordering: .relaxed)
                    }
                }
                return !failure.load(ordering: .relaxed)
            }
        }
        guard isFinite else { throw .notFinite(path: path, elements: 0..<values.numElements) }
        return output
    }
}
