public import Foundation
import Glibc

/// A file that appears whole under its name or not at all.
///
/// Bytes go to a temporary file beside the target; `commit` flushes it to the disk and renames it. Without
/// `commit` the temporary is removed and what was under the name stays.
public final class AtomicFile {
    /// The file to replace.
    public let url: URL
    /// The temporary file that holds the bytes until `commit`.
    package let temporary: URL
    private var descriptor: Int32
    private var isCommitted = false

    /// Creates the temporary file for `url`.
    ///
    /// - Throws: `CheckpointError.cannotWrite`, also for a device or pipe, which a rename would replace.
    public init(replacing url: URL) throws(CheckpointError) {
        var status = stat()
        if stat(url.path, &status) == 0, status.st_mode & S_IFMT != S_IFREG {
            guard status.st_mode & S_IFMT == S_IFDIR else {
                throw .cannotWrite(
                    path: url.path, reason: "it is a device or a pipe",
                    remedy: "give the path of a file")
            }
            throw Self.writeError(path: url.path, code: EISDIR)
        }
        self.url = url
        temporary = TemporaryName.make(for: url, isHidden: true)
        descriptor = open(temporary.path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o644)
        guard descriptor >= 0 else { throw Self.writeError(path: url.path, code: errno) }
    }

    deinit {
        if descriptor >= 0 { Glibc.close(descriptor) }
        if !isCommitted { unlink(temporary.path) }
    }

    /// Writes a whole file: temporary, flush, rename.
    public static func write(_ data: Data, to url: URL) throws(CheckpointError) {
        let file = try AtomicFile(replacing: url)
        try file.append([UInt8](data))
        try file.commit()
    }

    /// Appends `bytes`.
    public func append(_ bytes: UnsafeRawBufferPointer) throws(CheckpointError) {
        try Self.write(bytes, to: descriptor, path: url.path)
    }

    /// Appends `bytes`.
    public func append(_ bytes: [UInt8]) throws(CheckpointError) {
        try bytes.withUnsafeBufferPointer { (buffer) throws(CheckpointError) in
            try append(UnsafeRawBufferPointer(buffer))
        }
    }

    /// Writes all of `text` to `descriptor`; `path` names the file in errors.
    package static func write(
        _ text: String, to descriptor: Int32, path: String
    ) throws(CheckpointError) {
        try Array(text.utf8).withUnsafeBufferPointer { (bytes) throws(CheckpointError) in
            try write(UnsafeRawBufferPointer(bytes), to: descriptor, path: path)
        }
    }

    /// Flushes the bytes to the disk and closes the temporary file, which is then complete.
    package func close() throws(CheckpointError) {
        guard descriptor >= 0 else { return }
        let status = fsync(descriptor) == 0 ? 0 : errno
        let closed = Glibc.close(descriptor) == 0 ? 0 : errno
        descriptor = -1
        guard status == 0, closed == 0 else {
            throw Self.writeError(path: url.path, code: status == 0 ? closed : status)
        }
    }

    /// Puts the file under its name.
    public func commit() throws(CheckpointError) {
        try close()
        guard rename(temporary.path, url.path) == 0 else {
            throw Self.writeError(path: url.path, code: errno)
        }
        isCommitted = true
        try Self.flushFolder(url.deletingLastPathComponent())
    }

    /// Writes all of `bytes` to `descriptor`; `path` names the file in errors.
    package static func write(
        _ bytes: UnsafeRawBufferPointer, to descriptor: Int32, path: String
    ) throws(CheckpointError) {
        var rest = bytes[...]
        while !rest.isEmpty {
            let piece = UnsafeRawBufferPointer(rebasing: rest)
            let count = Glibc.write(descriptor, piece.baseAddress, piece.count)
            if count < 0 && errno == EINTR { continue }
            guard count > 0 else {
                throw writeError(path: path, code: count == 0 ? ENOSPC : errno)
            }
            rest = rest.dropFirst(count)
        }
    }

    /// Makes renames in `folder` durable.
    package static func flushFolder(_ folder: URL) throws(CheckpointError) {
        let descriptor = open(folder.path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard descriptor >= 0 else { throw writeError(path: folder.path, code: errno) }
        defer { Glibc.close(descriptor) }
        // Some network file systems cannot flush a folder: EINVAL says so, and nothing is lost.
        guard fsync(descriptor) == 0 || errno == EINVAL else {
            throw writeError(path: folder.path, code: errno)
        }
    }

    /// The error for the system's error `code`.
    package static func writeError(path: String, code: Int32) -> CheckpointError {
        let (reason, remedy) =
            switch code {
            case ENOSPC, EDQUOT:
                ("no space left on the disk", "free some space or write to another disk")
            case EFBIG:
                ("the file would exceed the size limit of this process", "raise `ulimit -f`")
            case EACCES, EPERM:
                ("permission denied", "give your user the right to write there")
            case EROFS: ("the file system is read-only", "write to another folder")
            case ENOENT: ("its folder does not exist", "create the folder first")
            case ENOTDIR: ("a part of the path is not a folder", "check the path")
            case EISDIR: ("it is a folder", "give the path of a file")
            default: (String(cString: strerror(code)), "check the disk")
            }
        return .cannotWrite(path: path, reason: reason, remedy: remedy)
    }
}

/// Names of temporary files and folders: `<name>.tmp-<process id>-<random>`.
///
/// The process id tells those that a killed process left behind from those in use.
enum TemporaryName {
    /// A new name beside `url`; a hidden one begins with a dot.
    static func make(for url: URL, isHidden: Bool) -> URL {
        let random = String(UInt32.random(in: .min ... .max), radix: 16)
        let name = "\(isHidden ? "." : "")\(url.lastPathComponent).tmp-\(getpid())-\(random)"
        return url.deletingLastPathComponent().appending(path: name)
    }

    /// Says whether `name` is a temporary of a process that has ended.
    static func isStale(_ name: String) -> Bool {
        guard let marker = name.range(of: ".tmp-", options: .backwards),
            let process = name[marker.upperBound...].split(separator: "-").first.flatMap({
                pid_t($0)
            }), process > 0
        else { return false }
        return kill(process, 0) != 0 && errno == ESRCH
    }
}
