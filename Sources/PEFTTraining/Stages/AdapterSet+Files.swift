import PEFTAdapters
import PEFTCheckpoints
import PEFTLayers
import Torch

extension AdapterSet {
    /// The adapter's tensors by their names in the file, without history.
    ///
    /// - Throws: `TorchError` if libtorch cannot make a view.
    func detachedTensors() throws(TorchError) -> [String: Tensor] {
        var tensors: [String: Tensor] = [:]
        for parameter in parameters {
            tensors[parameter.path] = try parameter.value.detach()
        }
        return tensors
    }

    /// Takes over the tensors of a folder.
    ///
    /// - Throws: `CheckpointError` naming every tensor that is missing, unexpected or mis-shaped.
    func read(from folder: AdapterFolder) throws {
        try load(try folder.tensors(expected: tensorShapes, ignoring: frozenCopies))
    }
}
