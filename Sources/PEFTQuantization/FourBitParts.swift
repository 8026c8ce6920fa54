package import PEFTLayers
package import Torch

/// A 4-bit weight that somebody else holds: its description, and how to get its parts.
package struct FourBitParts {
    package let quantType: QuantType
    package let blockSize: Int
    /// The shape before packing.
    package let shape: [Int]
    /// The dtype that was quantized.
    package let sourceDType: DType
    /// Whether the scales are quantized.
    package let isNested: Bool
    /// The bytes of a range of codes, uint8.
    package let codes: (Range<Int>) throws -> Tensor
    /// All scales.
    package let absmax: () throws -> Absmax

    /// Describes a weight.
    package init(
        quantType: QuantType, blockSize: Int, shape: [Int], sourceDType: DType, isNested: Bool,
        codes: @escaping (Range<Int>) throws -> Tensor, absmax: @escaping () throws -> Absmax
    ) {
        self.quantType = quantType
        self.blockSize = blockSize
        self.shape = shape
        self.sourceDType = sourceDType
        self.isNested = isNested
        self.codes = codes
        self.absmax = absmax
    }

    /// The storage that it has.
    package var config: QuantizationConfig {
        QuantizationConfig(
            quantType: quantType, blockSize: blockSize, usesDoubleQuantization: isNested)
    }
}

extension FourBitTensor {
    /// Takes over what this process keeps of a weight.
    ///
    /// - Parameters:
    ///   - path: the tensor's name, for errors and for the placement.
    ///   - parts: the weight.
    ///   - placement: where codes and scales go.
    ///   - read: called with the elements whose codes this process keeps.
    /// - Throws: `QuantizationError`; what `placement`, `parts` and `read` throw.
    /// - Memory: what is kept.
    package init(
        path: String, _ parts: FourBitParts, placement: any TensorPlacement,
        read: (Range<Int>) throws -> Void
    ) throws {
        let count = parts.shape.reduce(1, *)
        let codes = try placement.place(
            PlacedShape(
                path: path, shape: [(count + 1) / 2], dtype: .uint8, granule: parts.blockSize / 2))
        let numBlocks = (count + parts.blockSize - 1) / parts.blockSize
        let absmax = try AbsmaxPlaces(
            path, numBlocks: numBlocks, isNested: parts.isNested, placement)
        if !placement.isPlan {
            if let own = codes.own {
                try withoutGrad { try own.copyInPlace(from: parts.codes(codes.range)) }
            }
            try read(
                min(2 * codes.range.lowerBound, count)..<min(2 * codes.range.upperBound, count))
        }
        try self.init(
            path: path, quantType: parts.quantType, blockSize: parts.blockSize,
            shape: parts.shape, sourceDType: parts.sourceDType, packed: codes.whole,
            absmax: try absmax.fill(with: placement.isPlan ? nil : parts.absmax()))
    }
}
