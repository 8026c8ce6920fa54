public import Torch

/// A tensor or setting that cannot be quantized or decoded.
public enum QuantizationError: Error, Equatable, Sendable {
    /// A block size that the format does not have.
    case invalidBlockSize(Int)
    /// A tensor whose elements are not float32, bfloat16 or float16.
    case unsupportedDType(path: String, found: DType)
    /// A NaN or an infinity among the elements of `range`.
    case notFinite(path: String, elements: Range<Int>)
    /// Data whose size does not fit the rest.
    case sizeMismatch(path: String, what: String, expected: Int, found: Int)
    /// Data whose dtype is not that of the format.
    case dtypeMismatch(path: String, what: String, expected: DType, found: DType)
    /// A number of elements that does not fill whole blocks.
    case partialBlock(format: String, numElements: Int, blockSize: Int)
    /// An operation of libtorch that failed.
    case torch(TorchError)
}

extension QuantizationError: CustomStringConvertible {
    /// What, where, expected, found, and what to do.
    public var description: String {
        switch self {
        case .invalidBlockSize(let found):
            let allowed = QuantizationConfig.blockSizes.map(String.init).joined(separator: ", ")
            return "block size \(found): expected one of \(allowed)"
        case .unsupportedDType(let path, let found):
            return """
                \(path): cannot quantize \(found.name), expected float32, bfloat16 or float16; \
                is the checkpoint already quantized?
                """
        case .notFinite(let path, let elements):
            return """
                \(path): NaN or infinity among elements \(elements.lowerBound) to \
                \(elements.upperBound - 1); the checkpoint is damaged or overflowed when it was saved
                """
        case .sizeMismatch(let path, let what, let expected, let found):
            return """
                \(path): expected \(expected) bytes or elements of \(what), found \(found); \
                is the file truncated?
                """
        case .dtypeMismatch(let path, let what, let expected, let found):
            return "\(path): expected \(expected.name) for \(what), found \(found.name)"
        case .partialBlock(let format, let numElements, let blockSize):
            return """
                \(numElements) elements in format \(format): expected a multiple of its block size \
                \(blockSize)
                """
        case .torch(let error):
            return error.description
        }
    }
}

/// Runs libtorch operations inside a function that throws `QuantizationError`.
func torch<Result>(
    _ body: () throws(TorchError) -> Result
) throws(QuantizationError) -> Result {
    do {
        return try body()
    } catch {
        throw .torch(error)
    }
}
