import CTorch

/// A libtorch operation that failed: which one, on what, and libtorch's reason.
public struct TorchError: Error, Equatable, Sendable, CustomStringConvertible {
    /// The operation, as it is called here: `matmul`.
    public let operation: String
    /// The tensors it was given, as dtype and shape: `float32[2, 3]`.
    public let operands: [String]
    /// The reason, in libtorch's words or ours.
    public let message: String
    /// Whether backward was called on a loss that no recorded operation made.
    public let isLossWithoutGraph: Bool
    /// Whether memory did not suffice: in libtorch's words, in oneDNN's or in ours.
    public var isOutOfMemory: Bool {
        [
            "can't allocate memory", "not enough memory", "could not create a memory",
            "out of memory",
        ]
        .contains { message.contains($0) }
    }

    /// Makes an error of an operation that is checked on the Swift side.
    public init(
        operation: String, operands: [String] = [], message: String,
        isLossWithoutGraph: Bool = false
    ) {
        self.operation = operation
        self.operands = operands
        self.message = message
        self.isLossWithoutGraph = isLossWithoutGraph
    }

    /// `matmul(float32[2, 3], float32[2, 3]): reason`; of many operands the first ones.
    public var description: String {
        let shown = operands.prefix(Self.maxShown).joined(separator: ", ")
        let more = operands.count - Self.maxShown
        return "\(operation)(\(shown)\(more > 0 ? ", \(more) more" : "")): \(message)"
    }

    private static let maxShown = 6

    /// The last failure of the C shim on this thread.
    static func last(_ operation: String, _ operands: [Tensor?]) -> TorchError {
        TorchError(
            operation: operation,
            operands: operands.map { $0?.summary ?? "none" },
            message: String(cString: ctorch_last_error()))
    }
}

/// Throws if a call of the C shim reported failure.
@inline(__always)
func check(
    _ operation: StaticString, _ operands: @autoclosure () -> [Tensor?] = [], _ status: Int32
) throws(TorchError) {
    guard status == 0 else {
        throw TorchError.last(operation.description, operands())
    }
}
