import CKernels
package import Torch

extension ElementwiseKernels {
    /// Which elements dropout keeps: those whose random number of 16 bits is at least `numDropped`.
    ///
    /// The numbers are those of SplitMix64 in counter mode, four from each output, lowest bits first.
    ///
    /// - Parameters:
    ///   - shape: of the result.
    ///   - numDropped: of 65,536.
    ///   - seed: decides all numbers, together with an element's place.
    /// - Returns: bool, of the shape.
    /// - Throws: `TorchError` if libtorch cannot allocate.
    /// - Memory: one byte an element.
    /// - Source: Steele, Lea, Flood 2014, "Fast Splittable Pseudorandom Number Generators".
    package func dropoutMask(
        _ shape: [Int], numDropped: UInt16, seed: UInt64
    ) throws(TorchError) -> Tensor {
        let kept = try Tensor.empty(shape, dtype: .bool)
        let count = kept.numElements
        run(
            "dropout_mask", on: [], to: [kept], numBlocks: (count + 3) / 4, numElements: count
        ) { addresses, blocks in
            ckernels_dropout_mask(
                instructionSet.rawValue, seed, numDropped, Int64(count), Int64(blocks.lowerBound),
                Int64(blocks.upperBound), addresses[0]?.assumingMemoryBound(to: UInt8.self))
        }
        return kept
    }

    /// `input * kept`: zero where an element is dropped; what is not finite becomes NaN there.
    ///
    /// - Parameters:
    ///   - input: any shape, float32, bfloat16 or float16.
    ///   - kept: bool, as the input.
    /// - Returns: as the input.
    /// - Throws: `TorchError` if shapes or dtypes do not fit.
    package func masked(_ input: Tensor, kept: Tensor) throws(TorchError) -> Tensor {
        let elementType = try elementType(of: [input], for: "dropout")
        guard kept.shape == input.shape, kept.dtype == .bool else {
            throw refusal(of: [input, kept], by: "dropout", "expected a mask of the input's shape")
        }
        guard input.device.isHost else { return try input * kept.to(input.dtype) }
        let (input, kept) = (try input.contiguous(), try kept.contiguous())
        let output = try Tensor.empty(input.shape, dtype: input.dtype)
        let count = input.numElements
        run(
            "dropout", on: [input, kept], to: [output], numBlocks: count, numElements: count
        ) { addresses, elements in
            ckernels_dropout_apply(
                instructionSet.rawValue, elementType, addresses[0],
                addresses[1]?.assumingMemoryBound(to: UInt8.self), Int64(elements.lowerBound),
                Int64(elements.upperBound), addresses[2])
        }
        return output
    }
}
