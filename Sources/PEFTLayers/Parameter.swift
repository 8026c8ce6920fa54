public import Torch

/// A named tensor of the model: frozen if it belongs to the base, trainable if it belongs to an adapter.
public final class Parameter {
    /// The Hugging Face name: `model.layers.0.input_layernorm.weight`.
    public let path: String
    /// The tensor; a leaf that requires grad exactly if the parameter is trainable.
    public let value: Tensor
    /// Whether the optimizer updates it.
    public let isTrainable: Bool

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
}
