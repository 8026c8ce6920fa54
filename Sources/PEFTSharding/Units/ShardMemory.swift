import Foundation
import Torch

/// Where a process keeps its shard of a unit.
///
/// In memory, or in a file from which it is read each time the unit is gathered: then the base takes disk instead of memory.
final class ShardMemory {
    /// Why a shard cannot be kept in a file.
    struct FileError: Error, CustomStringConvertible {
        let path: String
        let what: String
        let code: Int32

        var description: String {
            "\(path): \(what): \(String(cString: strerror(code))); the offloaded base needs a disk "
                + "with room for its 4-bit form"
        }
    }

    private let sizeBytes: Int
    private var memory: Tensor?
    private var descriptor: Int32 = -1

    /// Plans a shard; it takes memory when it is filled, so that an offloaded model never takes more than a unit's.
    init(sizeBytes: Int) {
        self.sizeBytes = sizeBytes
    }

    deinit {
        if descriptor >= 0 { close(descriptor) }
    }

    /// The bytes to fill, zeros at first.
    ///
    /// - Throws: `TorchError` if memory does not suffice.
    /// - Precondition: they are not in a file.
    func bytes() throws(TorchError) -> Tensor {
        precondition(descriptor < 0, "the shard is in a file")
        if let memory { return memory }
        let bytes = try Tensor.zeros([sizeBytes], dtype: .uint8)
        memory = bytes
        return bytes
    }

    /// Moves the bytes into a nameless file in a folder; they leave memory.
    ///
    /// - Throws: ``FileError``.
    func moveToFile(in folder: String) throws {
        let memory = try bytes()
        var name = Array("\(folder)/.base-XXXXXX".utf8CString)
        descriptor = mkstemp(&name)
        if descriptor >= 0 { unlink(name) }
        guard descriptor >= 0 else {
            throw FileError(path: folder, what: "no file can be made there", code: errno)
        }
        var start = 0
        while start < sizeBytes {
            let count = memory.withUnsafeBytes {
                pwrite(
                    descriptor, $0.baseAddress?.advanced(by: start), sizeBytes - start, off_t(start)
                )
            }
            if count < 0, errno == EINTR { continue }
            guard count > 0 else {
                throw FileError(
                    path: folder, what: "the shard cannot be written",
                    code: count == 0 ? ENOSPC : errno)
            }
            start += count
        }
        // Written pages stay in the page cache, which the kernel empties when memory is short; clean ones at once.
        guard fdatasync(descriptor) == 0 else {
            throw FileError(path: folder, what: "the shard cannot be written", code: errno)
        }
        posix_fadvise(descriptor, 0, 0, POSIX_FADV_DONTNEED)
        self.memory = nil
    }

    /// Asks the kernel to read the file ahead; returns at once.
    func readAhead() {
        guard descriptor >= 0 else { return }
        posix_fadvise(descriptor, 0, off_t(sizeBytes), POSIX_FADV_WILLNEED)
    }

    /// Copies the shard to the beginning of a buffer.
    ///
    /// - Throws: `TorchError` if the file cannot be read.
    func copy(to buffer: Tensor) throws(TorchError) {
        if let memory {
            try withoutGrad { () throws(TorchError) in
                try buffer.narrow(0, 0, sizeBytes).copyInPlace(from: memory)
            }
            return
        }
        var start = 0
        while start < sizeBytes {
            let count = buffer.withUnsafeMutableBytes {
                pread(
                    descriptor, $0.baseAddress?.advanced(by: start), sizeBytes - start, off_t(start)
                )
            }
            if count < 0, errno == EINTR { continue }
            guard count > 0 else {
                let reason = count == 0 ? "the file ends early" : String(cString: strerror(errno))
                throw TorchError(operation: "read an offloaded shard", message: reason)
            }
            start += count
        }
        posix_fadvise(descriptor, 0, off_t(sizeBytes), POSIX_FADV_DONTNEED)
    }

    /// The shard as a tensor: itself, or read from the file.
    ///
    /// - Throws: `TorchError` if the file cannot be read.
    func tensor() throws(TorchError) -> Tensor {
        if descriptor < 0 { return try bytes() }
        let buffer = try Tensor.empty([sizeBytes], dtype: .uint8)
        try copy(to: buffer)
        return buffer
    }
}
