package import Foundation
import Glibc

/// A folder that appears whole under its name or not at all.
package enum AtomicFolder {
    /// Writes a new folder: into a temporary one beside it, flushed to the disk, then renamed.
    ///
    /// - Parameters:
    ///   - url: where it is to be; nothing, or an empty folder.
    ///   - fill: writes the files into the folder that it is given.
    /// - Throws: what `fill` throws, or `CheckpointError.cannotWrite`, also if there is something; nothing is then left behind.
    package static func write(to url: URL, _ fill: (URL) throws -> Void) throws {
        try requireFree(url)
        try FolderContents.create(url.deletingLastPathComponent())
        let temporary = TemporaryName.make(for: url, isHidden: false)
        try FolderContents.create(temporary)
        defer { try? FileManager.default.removeItem(at: temporary) }
        try fill(temporary)
        try flush(temporary)
        guard rename(temporary.path, url.path) == 0 else {
            let code = errno
            try requireFree(url)
            throw AtomicFile.writeError(path: url.path, code: code)
        }
        try AtomicFile.flushFolder(url.deletingLastPathComponent())
    }

    /// Refuses a path at which there is a file, or a folder that is not empty.
    ///
    /// - Throws: `CheckpointError.cannotWrite`.
    package static func requireFree(_ url: URL) throws(CheckpointError) {
        var isFolder: ObjCBool = false
        guard FileManager.default.fileExists(atPath: url.path, isDirectory: &isFolder) else {
            return
        }
        let names = isFolder.boolValue ? try FolderContents(url).names : [url.lastPathComponent]
        guard let first = names.first else { return }
        throw .cannotWrite(
            path: url.path,
            reason: isFolder.boolValue
                ? "the folder is not empty (it holds \(first))" : "there is a file already",
            remedy: "give another path, or remove what is there")
    }

    /// Flushes every file and folder below `folder` to the disk.
    static func flush(_ folder: URL) throws(CheckpointError) {
        for name in try FolderContents(folder).names {
            let url = folder.appending(path: name)
            var status = stat()
            guard lstat(url.path, &status) == 0 else {
                throw AtomicFile.writeError(path: url.path, code: errno)
            }
            if status.st_mode & S_IFMT == S_IFDIR {
                try flush(url)
                continue
            }
            let descriptor = open(url.path, O_RDONLY | O_CLOEXEC)
            guard descriptor >= 0 else {
                throw AtomicFile.writeError(path: url.path, code: errno)
            }
            defer { close(descriptor) }
            guard fsync(descriptor) == 0 else {
                throw AtomicFile.writeError(path: url.path, code: errno)
            }
        }
        try AtomicFile.flushFolder(folder)
    }
}
