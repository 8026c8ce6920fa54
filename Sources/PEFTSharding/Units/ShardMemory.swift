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

    private enum Place {
        /// It takes memory when it is filled, so that an offloaded model never takes more than a unit's.
        case none
        /// Pages of its own: in a heap, the shards that went to files would leave holes that nothing uses again.
        case memory(Tensor)
        /// A descriptor; nil in a dry run.
        case file(Int32?)
    }

    private let sizeBytes: Int
    private var place = Place.none

    /// Plans a shard.
    init(sizeBytes: Int) {
        self.sizeBytes = sizeBytes
    }

    deinit {
        if case .file(let descriptor?) = place { close(descriptor) }
    }

    /// The bytes to fill, zeros at first.
    ///
    /// - Throws: `TorchError` if memory does not suffice.
    /// - Precondition: they are not in a file.
    func bytes() throws(TorchError) -> Tensor {
        switch place {
        case .memory(let bytes): return bytes
        case .none:
            let bytes = try Tensor.paged([sizeBytes], dtype: .uint8)
            place = .memory(bytes)
            return bytes
        case .file: preconditionFailure("the shard is in a file")
        }
    }

    /// Moves the bytes into a nameless file in a folder; they leave memory.
    ///
    /// - Throws: ``FileError``.
    func moveToFile(in folder: String) throws {
        let memory = try bytes()
        guard !DryRun.isOn else {
            place = .file(nil)
            return
        }
        var name = Array("\(folder)/.base-XXXXXX".utf8CString)
        let descriptor = mkstemp(&name)
        if descriptor >= 0 { unlink(name) }
        guard descriptor >= 0 else {
            throw FileError(path: folder, what: "no file can be made there", code: errno)
        }
        do {
            try Self.write(memory, to: descriptor, in: folder)
        } catch {
            close(descriptor)
            throw error
        }
        place = .file(descriptor)
    }

    private static func write(
        _ bytes: Tensor, to descriptor: Int32, in folder: String
    ) throws(FileError) {
        let sizeBytes = bytes.sizeBytes
        func failed(_ code: Int32) -> FileError {
            FileError(path: folder, what: "the shard cannot be written", code: code)
        }
        var start = 0
        while start < sizeBytes {
            let count = bytes.withUnsafeBytes {
                pwrite(
                    descriptor, $0.baseAddress?.advanced(by: start), sizeBytes - start, off_t(start)
                )
            }
            if count < 0, errno == EINTR { continue }
            guard count > 0 else { throw failed(count == 0 ? ENOSPC : errno) }
            start += count
        }
        // Written pages stay in the page cache, which the kernel empties when memory is short; clean ones at once.
        guard fdatasync(descriptor) == 0 else { throw failed(errno) }
        posix_fadvise(descriptor, 0, 0, POSIX_FADV_DONTNEED)
    }

    /// Asks the kernel to read the file ahead; returns at once.
    func readAhead() {
        guard case .file(let descriptor?) = place else { return }
        posix_fadvise(descriptor, 0, off_t(sizeBytes), POSIX_FADV_WILLNEED)
    }

    /// Copies the shard to the beginning of a buffer.
    ///
    /// - Throws: `TorchError` if the file cannot be read.
    func copy(to buffer: Tensor) throws(TorchError) {
        let descriptor: Int32
        switch place {
        case .file(let file?): descriptor = file
        case .file(nil): return
        case .memory, .none:
            let bytes = try bytes()
            return try withoutGrad { () throws(TorchError) in
                try buffer.narrow(0, 0, sizeBytes).copyInPlace(from: bytes)
            }
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
        guard case .file = place else { return try bytes() }
        let buffer = try Tensor.empty([sizeBytes], dtype: .uint8)
        try copy(to: buffer)
        return buffer
    }
}
