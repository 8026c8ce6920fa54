public import Torch

/// What an adapter puts into one place of a model: on a layer, or in the place of one of the base's own tensors.
public protocol AdapterPart: AnyObject {
    /// The part's tensors, in the order in which they are written.
    var parameters: [Parameter] { get }

    /// Whether the model computes exactly what it would compute without this part, for every input.
    ///
    /// True of a LoRA as it starts; an adapter of which it is true after training has learned nothing.
    ///
    /// - Throws: `TorchError` if memory does not suffice.
    /// - Complexity: every element may be looked at; waits for the device.
    func changesNothing() throws(TorchError) -> Bool
}
