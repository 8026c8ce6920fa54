import PEFTLayers
import Torch

/// Where the scales of a 4-bit tensor go.
struct AbsmaxPlaces {
    /// The scales, or their codes.
    private let first: PlacedTensor
    /// The scales of the scales.
    private let second: PlacedTensor?

    init(
        _ path: String, numBlocks: Int, isNested: Bool, _ placement: any TensorPlacement
    ) throws {
        first = try placement.place(
            PlacedShape(
                path: path, part: "absmax", shape: [numBlocks],
                dtype: isNested ? .uint8 : .float32))
        let numScales = (numBlocks + NestedAbsmax.blockSize - 1) / NestedAbsmax.blockSize
        second =
            isNested
            ? try placement.place(
                PlacedShape(path: path, part: "nested_absmax", shape: [numScales], dtype: .float32))
            : nil
    }

    /// Keeps what belongs here of scales that are known as a whole; nil for none.
    func fill(with scales: Absmax?) throws(TorchError) -> Absmax {
        switch scales {
        case .plain(let plain): try Self.copy(plain, to: first)
        case .nested(let nested):
            try Self.copy(nested.codes, to: first)
            if let second { try Self.copy(nested.scales, to: second) }
        case nil: break
        }
        guard let second else { return .plain(first.whole) }
        var offset: Float = 0
        var codebook = try NestedAbsmax.makeCodebook().to(first.whole.device)
        if case .nested(let nested) = scales {
            (offset, codebook) = (nested.offset, try nested.codebook.to(first.whole.device))
        }
        return .nested(
            NestedAbsmax(
                codes: first.whole, scales: second.whole,
                codebook: codebook, offset: offset))
    }

    private static func copy(_ source: Tensor, to place: PlacedTensor) throws(TorchError) {
        guard let own = place.own else { return }
        try withoutGrad { () throws(TorchError) in
            try own.copyInPlace(
                from: source.narrow(0, place.range.lowerBound, place.range.count))
        }
    }
}
