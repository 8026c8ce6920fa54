package import Torch

/// How the linear weights of a folder are quantized already.
package enum QuantizedStorage: Hashable, Sendable {
    /// Codes of 4 bits.
    case fourBit(QuantizationConfig)
    /// Codes of 8 bits with a scale for each row, of LLM.int8.
    case int8
}

extension QuantizedStorage: CustomStringConvertible {
    /// The storage in words.
    package var description: String {
        switch self {
        case .fourBit(let config): config.description
        case .int8: "int8, a scale for each row"
        }
    }
}

/// A quantized weight of a folder as storages take it.
package enum QuantizedParts {
    /// In 4 bits.
    case fourBit(FourBitParts)
    /// In 8 bits.
    case int8(Int8Parts)

    /// How it is quantized.
    package var storage: QuantizedStorage {
        switch self {
        case .fourBit(let parts): .fourBit(parts.config)
        case .int8: .int8
        }
    }

    /// The element type that its numbers had before.
    package var sourceDType: DType {
        switch self {
        case .fourBit(let parts): parts.sourceDType
        case .int8(let parts): parts.sourceDType
        }
    }
}
