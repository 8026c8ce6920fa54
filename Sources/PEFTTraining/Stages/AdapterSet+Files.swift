import PEFTAdapters
import PEFTCheckpoints
import PEFTLayers
import Torch

extension AdapterSet {
    /// Takes over the tensors of a folder.
    ///
    /// - Throws: `CheckpointError` naming every tensor that is missing, unexpected or mis-shaped.
    func read(from folder: AdapterFolder) throws {
        try load(try folder.tensors(expected: tensorShapes, ignoring: frozenCopies))
    }
}
