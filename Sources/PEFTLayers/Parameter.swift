public import Torch

/// A named tensor of the model: frozen if it belongs to the base, trainable if it belongs to an adapter.
public final class Parameter {
    /// The Hugging Face name: `model.layers.0.input_layernorm.weight`.
    public let path: String
    /// The tensor; a leaf that requires grad exactly if the parameter is trainable.
    public let value: Tensor
    /// Whether the optimizer updates it.
    public private(set) var isTrainable: Bool

    /// Names a tensor and sets whether autograd records for it.
    ///
    /// - Throws: `TorchError` for a trainable tensor that is not floating-point.
    public init(path: String, value: Tensor, isTrainable: Bool) throws(TorchError) {
        if isTrainable {
            try value.setRequiresGrad(true)
        }
        self.path = path
        self.value = value
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

    /// The same parameter with its tensor on a device; self if it is there.
    ///
    /// - Throws: `TorchError` if the device cannot be used or its memory does not suffice.
    package func moved(to device: Device) throws(TorchError) -> Parameter {
        guard value.device != device else { return self }
        return try Parameter(
            path: path, value: value.detach().to(device), isTrainable: isTrainable)
    }
}
