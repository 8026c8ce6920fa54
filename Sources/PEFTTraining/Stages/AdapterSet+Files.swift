import Foundation
import PEFTAdapters
import PEFTCheckpoints
import PEFTLayers
import Torch

extension AdapterSet {
    /// Writes the adapter as a folder of PEFT that names its base.
    ///
    /// - Throws: `CheckpointError.cannotWrite`; an adapter that was there stays.
    func write(to folder: URL, base: BaseFingerprint) throws {
        var tensors: [String: Tensor] = [:]
        for parameter in parameters {
            tensors[parameter.path] = try parameter.value.detach()
        }
        try AdapterFolder.write(
            configuration: config.adapterConfigJSON(), tensors: tensors, base: base, to: folder)
    }

    /// Takes over the tensors of a folder.
    ///
    /// - Throws: `CheckpointError` naming every tensor that is missing, unexpected or mis-shaped.
    func read(from folder: AdapterFolder) throws {
        try load(try folder.tensors(expected: tensorShapes, ignoring: frozenCopies))
    }
}
