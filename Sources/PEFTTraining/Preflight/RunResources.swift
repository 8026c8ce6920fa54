import Foundation

/// What a run needs of the machine.
package struct RunResources {
    /// What it takes, by a dry run.
    let plan: RunPlan
    /// Bytes of the adapter.
    let adapterBytes: Int
    /// Bytes of the optimizer's state.
    let stateBytes: Int
    /// Checkpoints that will be on the disk together.
    let numCheckpoints: Int

    /// Counts for a run.
    ///
    /// - Parameters:
    ///   - plan: what it takes.
    ///   - adapterBytes: of the adapter.
    ///   - stateBytes: of the optimizer's state.
    ///   - numCheckpoints: that will be on the disk together.
    package init(plan: RunPlan, adapterBytes: Int, stateBytes: Int, numCheckpoints: Int) {
        self.plan = plan
        self.adapterBytes = adapterBytes
        self.stateBytes = stateBytes
        self.numCheckpoints = numCheckpoints
    }

    /// Bytes of the adapter and of all checkpoints: the adapter and the optimizer's state each.
    package var diskBytes: Int { adapterBytes + (adapterBytes + stateBytes) * numCheckpoints }

    /// What a plan may be too high by: a run is refused only if it would not fit all the same.
    private static let planError = 0.1

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

    /// Refuses a run that does not fit into memory.
    ///
    /// - Parameters:
    ///   - free: bytes that the process can still get.
    ///   - held: bytes that it holds now.
    /// - Throws: ``Diagnosis`` with ``DiagnosisCode/memoryTooSmall``.
    package func require(memory free: Int, held: Int) throws(Diagnosis) {
        try Self.require(memory: free, held: held, for: plan, at: nil)
    }

    /// Refuses a run that does not fit into the memory of the process, or of a device.
    static func require(
        memory free: Int, held: Int, for plan: RunPlan, at device: String?
    ) throws(Diagnosis) {
        let missing = Int(Double(plan.peakMemoryBytes) * (1 - planError)) - held
        guard missing > free else { return }
        throw Diagnosis(
            .memoryTooSmall, at: "a step of \(plan.numTokens) tokens",
            "the process will take about \(plan.peakMemoryBytes.megabytes) "
                + (device.map { "of \($0) " } ?? "") + "at its peak, but "
                + "\(free.megabytes) are available to it",
            remedy: "give --gradient-checkpointing, a smaller --per-device-train-batch-size or "
                + "--max-length, or --offload base; peft plan --memory proposes what fits")
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
