public import Torch

/// A named tensor of the model: frozen if it belongs to the base, trainable if it belongs to an adapter.
///
/// An adapter can train a tensor of the base as a whole: it gives the base's parameter a copy, with which layers compute in its
/// place, see ``replace(by:)``.
public final class Parameter {
    /// The Hugging Face name: `model.layers.0.input_layernorm.weight`.
    public let path: String
    /// Whether the optimizer updates it.
    public private(set) var isTrainable: Bool
    /// What an adapter trains in the place of this tensor; nil where the base's own is computed with.
    public private(set) var replacement: Parameter?
    /// The tensor as the base has it, replaced or not.
    package let original: Tensor

    /// Whether passes compute with the base's own tensors though they are replaced; see ``withOriginals(_:_:)``.
    @TaskLocal private static var usesOriginals = false

    /// The tensor to compute with: a leaf that requires grad exactly if what it belongs to is trainable.
    public var value: Tensor {
        guard let replacement, !Self.usesOriginals else { return original }
        return replacement.value
    }

    /// Names a tensor and sets whether autograd records for it.
    ///
    /// - Throws: `TorchError` for a trainable tensor that is not floating-point.
    public init(path: String, value: Tensor, isTrainable: Bool) throws(TorchError) {
        if isTrainable {
            try value.setRequiresGrad(true)
        }
        self.path = path
        original = value
        self.isTrainable = isTrainable
    }

    /// Makes a trainable tensor a frozen one, before anything holds it for trainable.
    ///
    /// - Throws: `TorchError` if libtorch refuses.
    package func freeze() throws(TorchError) {
        guard isTrainable else { return }
        try value.setRequiresGrad(false)
        isTrainable = false
    }

    /// The tensor to compute with in the dtype that the base has it in: what a replacement trains in float32 is rounded on its way
    /// into a product or a residual stream.
    ///
    /// - Throws: `TorchError` if memory does not suffice.
    /// - Memory: nothing, unless it is replaced by one of another dtype; then a copy.
    package func computed() throws(TorchError) -> Tensor {
        let value = value
        return value.dtype == original.dtype ? value : try value.to(original.dtype)
    }

    /// Lets layers compute with another tensor of the same shape.
    ///
    /// - Precondition: nothing replaces it yet.
    package func replace(by other: Parameter) {
        precondition(replacement == nil, "\(path) is replaced already")
        precondition(other.original.shape == original.shape, "\(other.path) has another shape")
        replacement = other
    }

    /// Lets layers compute with the base's own tensor again.
    ///
    /// - Returns: what replaced it, if anything did.
    @discardableResult
    package func restore() -> Parameter? {
        defer { replacement = nil }
        return replacement
    }

    /// Runs a pass with the base's own tensors, whatever replaces them, if a condition holds.
    package static func withOriginals<Result>(
        _ condition: Bool, _ body: () throws(TorchError) -> Result
    ) throws(TorchError) -> Result {
        guard condition else { return try body() }
        do {
            return try $usesOriginals.withValue(true) { try body() }
        } catch let error as TorchError {
            throw error
        } catch {
            preconditionFailure("the body throws nothing else: \(error)")
        }
    }

    /// The same parameter with its tensor on a device; self if it is there.
    ///
    /// - Throws: `TorchError` if the device cannot be used or its memory does not suffice.
    package func moved(to device: Device) throws(TorchError) -> Parameter {
        guard original.device != device else { return self }
        return try Parameter(
            path: path, value: original.detach().to(device), isTrainable: isTrainable)
    }
}
