package import Foundation
import PEFTAdapters
import PEFTCheckpoints
import Torch

/// Writes the adapter of a model, and proves that what lies on the disk is what is in memory.
package struct AdapterWriter {
    /// The model whose adapter is written.
    package let adapted: AdaptedModel

    /// Makes a writer of a model's adapter.
    package init(adapted: AdaptedModel) {
        self.adapted = adapted
    }

    /// Writes the adapter as a folder of PEFT that names its base, and reads it again.
    ///
    /// - Throws: `CheckpointError.cannotWrite`, and an adapter that was there stays; what ``verify(_:)`` throws.
    package func write(to folder: URL) throws {
        try AdapterFolder.write(
            configuration: adapted.adapter.config.adapterConfigJSON(),
            tensors: try adapted.adapter.detachedTensors(), base: adapted.base.fingerprint,
            to: folder)
        try verify(folder)
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

    /// Refuses a trained adapter that computes what the base computes.
    ///
    /// - Parameters:
    ///   - folder: where it was written; it stays.
    ///   - numSteps: optimizer steps done.
    /// - Throws: ``Diagnosis`` with ``DiagnosisCode/adapterIsZero``.
    package func requireChange(in folder: URL, numSteps: Int) throws {
        guard try numSteps > 0 && adapted.adapter.changesNothing() else { return }
        throw Diagnosis(
            .adapterIsZero, at: folder.path,
            """
            \(numSteps == 1 ? "after 1 step" : "after \(numSteps) steps") the adapter still changes \
            nothing, every B is zero: the learning rate was 0 in every step, as it is in the first one \
            of a warm-up, or too small for float32, or no gradient came
            """,
            remedy: """
                lower warmup_steps or raise max_steps and learning_rate; the folder and its \
                checkpoints are kept
                """)
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
        for (path, tensor) in try adapted.adapter.detachedTensors().sorted(by: { $0.key < $1.key })
        {
            guard let found = stored[path], found.dtype == tensor.dtype,
                Self.bytes(of: found) == Self.bytes(of: try tensor.contiguous())
            else {
                differences.append(path)
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
