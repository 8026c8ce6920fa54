import Foundation
import PEFTLayers
import Torch

/// What a run needs of the machine, as far as it is certain before the first step.
package struct RunResources {
    /// Bytes of the trainable tensors, which are float32.
    let trainableBytes: Int
    /// Checkpoints that will be on the disk together.
    let numCheckpoints: Int
    /// Tokens of the largest micro-batch.
    let numTokens: Int
    /// Bytes that the activations of one token take in all blocks, at least.
    let activationBytesPerToken: Int

    /// Counts for a model and a run.
    ///
    /// - Parameters:
    ///   - sharded: the model.
    ///   - elementBytes: of an activation.
    ///   - isRecomputed: whether blocks keep their input only.
    ///   - numTokens: of the largest micro-batch.
    ///   - numCheckpoints: that will be on the disk together.
    package init(
        _ sharded: ShardedModel, elementBytes: Int, isRecomputed: Bool, numTokens: Int,
        numCheckpoints: Int
    ) {
        trainableBytes = sharded.trainableParameters.reduce(0) { $0 + $1.value.sizeBytes }
        self.numCheckpoints = numCheckpoints
        self.numTokens = numTokens
        let linears = sharded.adapted.base.registry.linears
        let blocks = Set(sharded.subjects.compactMap(\.block))
        // What follows a linear keeps its output for backward; a recomputed block keeps its input.
        let width =
            isRecomputed
            ? blocks.count * (linears.first?.weight.inFeatures ?? 0)
            : linears.filter { linear in blocks.contains { linear.path.hasPrefix($0 + ".") } }
                .reduce(0) { $0 + $1.weight.outFeatures }
        activationBytesPerToken = width * elementBytes
    }

    /// Bytes of the adapter and of all checkpoints: the adapter and two moments each.
    package var diskBytes: Int { trainableBytes * (1 + 3 * numCheckpoints) }

    /// Bytes that a step takes beyond the model, at least: gradients, moments, activations.
    package var memoryBytes: Int { 3 * trainableBytes + numTokens * activationBytesPerToken }

    /// Refuses a disk that cannot hold the run's files.
    ///
    /// - Throws: ``Diagnosis`` with ``DiagnosisCode/diskTooSmall``.
    package func require(disk free: Int, of folder: String) throws(Diagnosis) {
        guard diskBytes > free else { return }
        throw Diagnosis(
            .diskTooSmall, at: folder,
            "\(numCheckpoints) checkpoints and the adapter take \(diskBytes.megabytes), but "
                + "\(free.megabytes) are free",
            remedy: "give --save-total-limit, save less often with --save-steps, or write to "
                + "another disk with --output-dir")
    }

    /// Refuses a step that cannot fit into memory.
    ///
    /// - Throws: ``Diagnosis`` with ``DiagnosisCode/memoryTooSmall``.
    package func require(memory free: Int) throws(Diagnosis) {
        guard memoryBytes > free else { return }
        throw Diagnosis(
            .memoryTooSmall, at: "a step of \(numTokens) tokens",
            "gradients, optimizer state and activations take at least \(memoryBytes.megabytes), but "
                + "\(free.megabytes) are available",
            remedy: "give --gradient-checkpointing, a smaller --per-device-train-batch-size or "
                + "--max-length, or a smaller --lora-r")
    }

    // MARK: - What there is

    /// Free bytes on the disk of a folder that need not be there yet; nil if the system does not tell.
    package static func freeDiskBytes(at path: String) -> Int? {
        let attributes = try? FileManager.default.attributesOfFileSystem(
            forPath: existingFolder(at: path))
        return (attributes?[.systemFreeSize] as? NSNumber)?.intValue
    }

    /// The folder, or the nearest one above it that is there.
    static func existingFolder(at path: String) -> String {
        var folder = URL(filePath: path).standardizedFileURL
        while !FileManager.default.fileExists(atPath: folder.path), folder.path != "/" {
            folder.deleteLastPathComponent()
        }
        return folder.path
    }

    /// Bytes of memory that the kernel could give this process; nil if it does not tell.
    package static func availableMemoryBytes() -> Int? {
        let text = try? String(contentsOfFile: "/proc/meminfo", encoding: .utf8)
        let line = text?.split(separator: "\n").first { $0.hasPrefix("MemAvailable:") }
        guard let kilobytes = line?.split(separator: " ").dropFirst().first.flatMap({ Int($0) })
        else { return nil }
        return min(kilobytes * 1024, controlGroupHeadroom() ?? .max)
    }

    /// Bytes until the limit of this process's control group; nil without one.
    private static func controlGroupHeadroom() -> Int? {
        func number(_ name: String) -> Int? {
            let text = try? String(contentsOfFile: "/sys/fs/cgroup/\(name)", encoding: .utf8)
            return text.flatMap { Int($0.trimmingCharacters(in: .whitespacesAndNewlines)) }
        }
        guard let limit = number("memory.max"), let used = number("memory.current") else {
            return nil
        }
        return limit - used
    }
}

extension Int {
    /// Bytes as a text: `58.6 MB`, a million bytes each.
    var megabytes: String { "\((Double(self) / 1e5).rounded() / 10) MB" }
}
