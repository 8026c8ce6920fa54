import Foundation
import Torch

/// How linear weights are quantized to 4 bits.
public struct QuantizationConfig: Hashable, Sendable, Codable, LosslessStringConvertible {
    /// The block sizes that bitsandbytes knows.
    public static let blockSizes = [32, 64, 128, 256, 512, 1024, 2048, 4096]

    /// The codebook.
    public var quantType: QuantType
    /// Elements that share one absmax: a power of two from 32 to 4096.
    public var blockSize: Int
    /// Whether absmax is itself quantized to 8 bits, which saves 0.37 bits an element at block size 64.
    public var usesDoubleQuantization: Bool

    /// Makes a configuration; the defaults are QLoRA's.
    public init(
        quantType: QuantType = .nf4, blockSize: Int = 64, usesDoubleQuantization: Bool = true
    ) {
        self.quantType = quantType
        self.blockSize = blockSize
        self.usesDoubleQuantization = usesDoubleQuantization
    }

    /// The storage in words: `nf4, block 64, double quantized`.
    public var description: String {
        "\(quantType.rawValue), block \(blockSize)"
            + (usesDoubleQuantization ? ", double quantized" : "")
    }

    /// Reads the storage in words; nil for anything else.
    public init?(_ description: String) {
        let words = description.components(separatedBy: ", ")
        guard (2...3).contains(words.count), let type = QuantType(rawValue: words[0]),
            words[1].hasPrefix("block "), let size = Int(words[1].dropFirst(6)),
            words.count == 2 || words[2] == "double quantized"
        else { return nil }
        self.init(quantType: type, blockSize: size, usesDoubleQuantization: words.count == 3)
        guard Self.blockSizes.contains(size), self.description == description else { return nil }
    }

    /// Checks the block size.
    ///
    /// - Throws: `QuantizationError.invalidBlockSize`.
    public func validate() throws(QuantizationError) {
        guard Self.blockSizes.contains(blockSize) else {
            throw .invalidBlockSize(blockSize)
        }
    }
}

/// A 4-bit codebook by its name in bitsandbytes.
public enum QuantType: String, Hashable, Sendable, Codable, CaseIterable {
    case nf4
    case fp4

    /// The level of each of the 16 codes, from -1 to 1.
    public var codebook: [Float] {
        switch self {
        case .nf4: NF4.codebook
        case .fp4: FP4.codebook
        }
    }

    /// The levels of both codes of each byte, the one in the high nibble first: float32 `[256, 2]`.
    func levelsOfBytes() throws(TorchError) -> Tensor {
        let levels = codebook
        return try Tensor(
            (0..<256).flatMap { [levels[$0 >> 4], levels[$0 & 15]] }, shape: [256, 2])
    }
}
