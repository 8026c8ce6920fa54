import CKernels
package import PEFTLayers
import Synchronization
package import Torch

/// Blockwise 4-bit coding of raw memory, in bitsandbytes' layout.
///
/// The tensor counts as flat and is cut into blocks of `blockSize` elements, across rows. Each block keeps
/// `absmax = max |w|` and the codes of the levels nearest to `w / absmax`, two codes a byte, the first in the high nibble.
/// An odd count is filled up with the code of zero.
///
/// - Source: bitsandbytes 0.50.2 `backends/default/ops.py:quantize_4bit`, `_dequantize_4bit_compute`; same bytes.
package struct FourBitCodec: Sendable {
    /// The codebook.
    package let quantType: QuantType
    /// Elements of a block.
    package let blockSize: Int
    private let instructionSet: InstructionSet
    private let parallelism: BlockParallelism
    private let codebook: [Float]

    /// The dtypes that have 4-bit codes.
    package static let dtypes: Set<DType> = [.float32, .bfloat16, .float16]

    /// Makes a codec.
    ///
    /// - Throws: `QuantizationError.invalidBlockSize`.
    /// - Precondition: this machine runs the instruction set.
    package init(
        quantType: QuantType, blockSize: Int, instructionSet: InstructionSet = .best,
        parallelism: BlockParallelism = .automatic
    ) throws(QuantizationError) {
        try QuantizationConfig(quantType: quantType, blockSize: blockSize).validate()
        precondition(instructionSet.isSupported, "\(instructionSet) is not of this machine")
        self.quantType = quantType
        self.blockSize = blockSize
        self.instructionSet = instructionSet
        self.parallelism = parallelism
        codebook = quantType.codebook
    }

    /// Blocks of a tensor, the last one perhaps partial.
    package func numBlocks(_ numElements: Int) -> Int {
        (numElements + blockSize - 1) / blockSize
    }

    /// The elements of a block.
    package func elements(ofBlock block: Int, of numElements: Int) -> Range<Int> {
        block * blockSize..<min((block + 1) * blockSize, numElements)
    }

    /// Codes elements.
    ///
    /// - Parameters:
    ///   - input: elements of `dtype`.
    ///   - dtype: float32, bfloat16 or float16.
    ///   - packed: half a byte an element, rounded up.
    ///   - absmax: one float a block.
    /// - Returns: the first block that holds a NaN or an infinity, or nil if all is well.
    /// - Precondition: the dtype is one of the three and the sizes fit.
    package func quantize(
        _ input: UnsafeRawBufferPointer, dtype: DType, packed: UnsafeMutableRawBufferPointer,
        absmax: UnsafeMutableBufferPointer<Float>
    ) -> Int? {
        let count = input.count / dtype.sizeBytes
        precondition(packed.count == (count + 1) / 2 && absmax.count == numBlocks(count))
        let firstFailure = Atomic(Int64.max)
        parallelism.forEachRange(of: absmax.count, numElements: count) { blocks in
            let status = ckernels_fourbit_quantize(
                instructionSet.rawValue, codebook, Self.elementType(dtype), input.baseAddress,
                Int64(count), Int64(blockSize), Int64(blocks.lowerBound), Int64(blocks.upperBound),
                packed.bindMemory(to: UInt8.self).baseAddress, absmax.baseAddress)
            precondition(status != CKERNELS_INVALID_ARGUMENT, "the kernel refused its arguments")
            if status >= 0 {
                firstFailure.min(status, ordering: .relaxed)
            }
        }
        let block = firstFailure.load(ordering: .relaxed)
        return block == .max ? nil : Int(block)
    }

    /// Decodes elements: `codebook[code] * absmax` in float32, rounded once to the output's dtype.
    ///
    /// - Parameters:
    ///   - packed: the codes.
    ///   - absmax: one float a block.
    ///   - output: elements of `dtype`.
    ///   - dtype: float32, bfloat16 or float16.
    /// - Precondition: the dtype is one of the three and the sizes fit.
    package func dequantize(
        _ packed: UnsafeRawBufferPointer, absmax: UnsafeBufferPointer<Float>,
        into output: UnsafeMutableRawBufferPointer, dtype: DType
    ) {
        let count = output.count / dtype.sizeBytes
        precondition(packed.count == (count + 1) / 2 && absmax.count == numBlocks(count))
        parallelism.forEachRange(of: absmax.count, numElements: count) { blocks in
            let status = ckernels_fourbit_dequantize(
                instructionSet.rawValue, codebook, Self.elementType(dtype),
                packed.bindMemory(to: UInt8.self).baseAddress, absmax.baseAddress, Int64(count),
                Int64(blockSize), Int64(blocks.lowerBound), Int64(blocks.upperBound),
                output.baseAddress)
            precondition(status == CKERNELS_OK, "the kernel refused its arguments")
        }
    }

    /// The kernels' name of a dtype.
    private static func elementType(_ dtype: DType) -> Int32 {
        guard let type = dtype.kernelElementType else {
            preconditionFailure("4-bit codes of \(dtype.name)")
        }
        return type
    }
}
