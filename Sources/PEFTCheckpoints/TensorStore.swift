import PEFTQuantization
import Torch

/// Stored tensors under Hugging Face names, whatever the file format.
protocol TensorStore: AnyObject {
    /// The folder or file, for messages.
    var path: String { get }
    /// The shape of every stored tensor by its Hugging Face name.
    var shapes: [String: [Int]] { get }

    /// How the tensor called `name` is stored: "BF16", "Q4_1".
    func storage(of name: String) -> String

    /// Whether the tensor called `name` is made of floating-point numbers.
    func isFloatingPoint(_ name: String) -> Bool

    /// Reads elements of the tensor called `name`, as `[range.count]`: zero-copy where the file has plain elements, else decoded
    /// to float32.
    func load(_ range: Range<Int>, of name: String) throws -> Tensor

    /// Whether the tensor called `name` may stay unread: leaving it out changes no result.
    func isHarmless(_ name: String) throws -> Bool

    /// Whether the tensor called `name` is stored in pieces: those of experts.
    func isPieced(_ name: String) -> Bool

    /// The tensor called `name`, if it is stored as codes of bitsandbytes.
    func quantizedParts(of name: String) -> QuantizedParts?
}

extension TensorStore {
    /// None.
    func quantizedParts(of name: String) -> QuantizedParts? { nil }
}
