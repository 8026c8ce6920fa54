public import Foundation
import Glibc

/// A training checkpoint: a folder `checkpoint-<step>` that is there whole or not at all.
///
/// What is in it is the trainer's matter.
public struct CheckpointFolder: Hashable, Sendable {
    /// The folder.
    public let url: URL
    /// The number of steps done when it was written.
    public let step: Int

    private static let prefix = "checkpoint-"
    private static let replacedSuffix = ".replaced"

    /// The complete checkpoints in `directory`, by step; none if the directory is missing.
    public static func list(in directory: URL) -> [CheckpointFolder] {
        let names = (try? FileManager.default.contentsOfDirectory(atPath: directory.path)) ?? []
        return names.compactMap { name in
            step(ofName: name).map {
                CheckpointFolder(url: directory.appending(path: name), step: $0)
            }
        }.sorted { $0.step < $1.step }
    }

    /// The step in a folder name `checkpoint-<step>`; nil for other names.
    static func step(ofName name: String) -> Int? {
        guard name.hasPrefix(prefix), let step = Int(name.dropFirst(prefix.count)), step >= 0,
            name == prefix + String(step)
        else { return nil }
        return step
    }

    /// Writes the checkpoint of `step`: into a temporary folder, flushed to the disk, then renamed.
    ///
    /// - Parameters:
    ///   - step: the number of steps done.
    ///   - directory: the folder of the run; it is created if it is missing.
    ///   - fill: writes the files into the folder that it is given.
    /// - Returns: the checkpoint, which replaces an older one of the same step.
    /// - Throws: what `fill` throws, or `CheckpointError.cannotWrite`; nothing is then left behind.
    @discardableResult
    public static func write(
        step: Int, in directory: URL, _ fill: (URL) throws -> Void
    ) throws -> CheckpointFolder {
        let url = directory.appending(path: prefix + String(step))
        let temporary = TemporaryName.make(for: url, isHidden: false)
        try FolderContents.create(temporary)
        defer { try? FileManager.default.removeItem(at: temporary) }
        try fill(temporary)
        try AtomicFolder.flush(temporary)
        try move(temporary, to: url)
        try AtomicFile.flushFolder(directory)
        return CheckpointFolder(url: url, step: step)
    }

    /// Removes the checkpoint: its name goes first, so that no part of it is taken for a checkpoint.
    ///
    /// - Throws: `CheckpointError.cannotWrite` if the disk refuses.
    public func remove() throws(CheckpointError) {
        let aside = TemporaryName.make(for: url, isHidden: false)
        guard rename(url.path, aside.path) == 0 else {
            throw AtomicFile.writeError(path: url.path, code: errno)
        }
        try Self.remove(aside)
    }

    /// Removes the temporary files and folders that killed processes left in `directory`.
    ///
    /// A checkpoint that a killed process had moved aside comes back if its successor is not there.
    ///
    /// - Returns: the names of what was removed.
    @discardableResult
    public static func removeStale(in directory: URL) throws(CheckpointError) -> [String] {
        var removed: [String] = []
        let names = (try? FileManager.default.contentsOfDirectory(atPath: directory.path)) ?? []
        for name in names.sorted() {
            let url = directory.appending(path: name)
            if name.hasSuffix(replacedSuffix),
                step(ofName: String(name.dropLast(replacedSuffix.count))) != nil
            {
                let original = String(url.path.dropLast(replacedSuffix.count))
                if access(original, F_OK) != 0, rename(url.path, original) == 0 { continue }
            } else if !TemporaryName.isStale(name) {
                continue
            }
            try remove(url)
            removed.append(name)
        }
        return removed
    }

    /// Puts `source` under the name `target`.
    ///
    /// A checkpoint that is there is first moved aside and removed at the end; `removeStale` brings it back if the
    /// process is killed in between.
    private static func move(_ source: URL, to target: URL) throws(CheckpointError) {
        let aside = URL(filePath: target.path + replacedSuffix)
        let isReplacing = rename(target.path, aside.path) == 0
        guard isReplacing || errno == ENOENT else {
            throw AtomicFile.writeError(path: target.path, code: errno)
        }
        guard rename(source.path, target.path) == 0 else {
            let code = errno
            if isReplacing { rename(aside.path, target.path) }
            throw AtomicFile.writeError(path: target.path, code: code)
        }
        if isReplacing { try remove(aside) }
    }

    private static func remove(_ url: URL) throws(CheckpointError) {
        do {
            try FileManager.default.removeItem(at: url)
        } catch {
            throw .cannotWrite(
                path: url.path, reason: "it cannot be removed",
                remedy: "remove it by hand")
        }
    }
}
