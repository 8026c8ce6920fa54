package import Foundation
import PEFTAdapters
import PEFTCheckpoints
import PEFTLayers
import PEFTSharding
import Torch

/// Writes the adapter of a model, and proves that what lies on the disk is what is in memory.
///
/// In several processes it is used inside of ``ModelShards/onMain(_:_:)``, where the others help to gather the tensors.
package struct AdapterWriter {
    /// The model whose adapter is written.
    package let adapted: AdaptedModel

    /// Makes a writer of a model's adapter.
    package init(adapted: AdaptedModel) {
        self.adapted = adapted
    }

    /// Writes the adapter as a folder of PEFT that names its base, and reads it again; with what it took out of the base's weights, if it
    /// did, as a folder `initial_adapter` in it.
    ///
    /// - Throws: `CheckpointError.cannotWrite`, and an adapter that was there stays; what ``verify(_:)`` throws.
    /// - Memory: one trainable tensor, or the trainable tensors of one block where they are divided over processes.
    package func write(to folder: URL) throws {
        let adapter = adapted.adapter
        let named =
            adapter.parameters.map { (name: $0.path, parameter: $0) }
            + adapter.repeated.map { (name: $0.key, parameter: $0.value) }
        let tensors = named.map { name, parameter in
            SafetensorsTensor(
                name: name, shape: parameter.value.shape, dtype: parameter.value.dtype
            ) {
                try whole(parameter)
            }
        }
        if let subtracted = adapter.subtracted {
            // First, because the adapter means nothing without it.
            try AdapterFolder.write(
                configuration: subtracted.config.adapterConfigJSON(), tensors: subtracted.tensors,
                base: adapted.base.fingerprint,
                to: folder.appending(path: WeightStart.folderName))
        }
        try AdapterFolder.write(
            configuration: adapter.config.adapterConfigJSON(), tensors: tensors,
            base: adapted.base.fingerprint, baseStorage: adapted.base.options.storage, to: folder)
        try verify(folder)
    }

    private func whole(_ parameter: Parameter) throws -> Tensor {
        try adapted.base.shards?.whole(parameter) ?? parameter.value.detach()
    }

    /// Opens a folder as a later run does, and compares configuration, base and every tensor, bit for bit, with memory.
    ///
    /// - Throws: ``Diagnosis`` with ``DiagnosisCode/savedDiffers`` naming every difference.
    package func verify(_ folder: URL) throws {
        let differences: [String]
        do {
            differences = try self.differences(AdapterFolder.read(folder))
        } catch let error as TorchError {
            throw error
        } catch CheckpointError.tensors(_, let problems) {
            differences = problems.map(\.description)
        } catch {
            differences = ["it does not read back: \(error)"]
        }
        guard differences.isEmpty else {
            throw Diagnosis(
                .savedDiffers, at: folder.path,
                "what was written is not what is in memory: " + Self.list(differences),
                remedy: """
                    check the disk and the memory of this machine, and that nothing else writes to this \
                    folder; then continue from the checkpoint before with --resume
                    """)
        }
    }

    // MARK: - Comparison

    private func differences(_ files: AdapterFolder) throws -> [String] {
        var differences: [String] = []
        let config = adapted.adapter.config.adapterConfigJSON()
        if try AdapterMethods.readConfig(adapterConfigJSON: files.configuration)
            .adapterConfigJSON() != config
        {
            differences.append("the configuration")
        }
        if files.baseFingerprint != adapted.base.fingerprint.description {
            differences.append("the base's fingerprint")
        }
        let stored = try files.tensors(expected: adapted.adapter.tensorShapes)
        for parameter in adapted.adapter.parameters.sorted(by: { $0.path < $1.path }) {
            let tensor = try whole(parameter).to(.cpu).contiguous()
            guard let found = stored[parameter.path], found.dtype == tensor.dtype,
                Self.bytes(of: found) == Self.bytes(of: tensor)
            else {
                differences.append(parameter.path)
                continue
            }
        }
        return differences
    }

    private static func bytes(of tensor: Tensor) -> [UInt8] {
        tensor.withUnsafeBytes { Array($0) }
    }

    private static func list(_ differences: [String]) -> String {
        let shown = differences.prefix(4).joined(separator: ", ")
        return differences.count > 4 ? shown + " and \(differences.count - 4) more" : shown
    }
}
