import Foundation
package import Torch

/// A file that has a disk's room but no name: what is kept out of memory.
///
/// It goes with the process, however that ends.
package final class OffloadFile {
    /// Why something cannot be kept in a file.
    package struct Failure: Error, CustomStringConvertible {
        let path: String
        let what: String
        let code: Int32

        /// What failed, where, why, and what it needs.
        package var description: String {
            "\(path): \(what): \(String(cString: strerror(code))); what is offloaded needs a disk "
                + "with room for it"
        }
    }

    private let folder: String
    private let descriptor: Int32

    /// Makes an empty file on the disk of a folder.
    ///
    /// - Throws: ``Failure``.
    package init(in folder: String) throws(Failure) {
        self.folder = folder
        var name = Array("\(folder)/.offload-XXXXXX".utf8CString)
        descriptor = mkstemp(&name)
        guard descriptor >= 0 else {
            throw Failure(path: folder, what: "no file can be made there", code: errno)
        }
        unlink(name)
    }

    deinit { close(descriptor) }

    // MARK: - Reading and writing

    /// Moves bytes until all are moved.
    ///
    /// - Parameters:
    ///   - sizeBytes: how many.
    ///   - move: moves some from a position on, and says how many as the system's calls do.
    /// - Returns: why not all are moved, as an error number; 0 where the file has no more.
    private func failure(
        moving sizeBytes: Int, _ move: (_ start: Int, _ count: Int) -> Int
    ) -> Int32? {
        var start = 0
        while start < sizeBytes {
            let count = move(start, sizeBytes - start)
            if count < 0, errno == EINTR { continue }
            guard count > 0 else { return count == 0 ? 0 : errno }
            start += count
        }
        return nil
    }

    /// Puts a tensor's bytes at the beginning of the file, and takes them out of the page cache.
    ///
    /// - Throws: ``Failure``.
    func write(_ bytes: Tensor) throws(Failure) {
        var code = bytes.withUnsafeBytes { bytes in
            failure(moving: bytes.count) { start, count in
                pwrite(descriptor, bytes.baseAddress?.advanced(by: start), count, off_t(start))
            }
        }
        // Written pages stay in the page cache, which the kernel empties when memory is short; clean ones at once.
        if code == nil, fdatasync(descriptor) != 0 { code = errno }
        if let code {
            throw Failure(
                path: folder, what: "the file cannot be written", code: code == 0 ? ENOSPC : code)
        }
        posix_fadvise(descriptor, 0, 0, POSIX_FADV_DONTNEED)
    }

    /// Asks the kernel to read the beginning of the file ahead; returns at once.
    func readAhead(sizeBytes: Int) {
        posix_fadvise(descriptor, 0, off_t(sizeBytes), POSIX_FADV_WILLNEED)
    }

    /// Copies the beginning of the file to the beginning of a buffer.
    ///
    /// - Throws: `TorchError` if the file cannot be read.
    func read(sizeBytes: Int, into buffer: Tensor) throws(TorchError) {
        let code = buffer.withUnsafeMutableBytes { bytes in
            failure(moving: sizeBytes) { start, count in
                pread(descriptor, bytes.baseAddress?.advanced(by: start), count, off_t(start))
            }
        }
        if let code {
            let reason = code == 0 ? "the file ends early" : String(cString: strerror(code))
            throw TorchError(operation: "read what is offloaded", message: reason)
        }
        posix_fadvise(descriptor, 0, off_t(sizeBytes), POSIX_FADV_DONTNEED)
    }

    // MARK: - Mapping

    /// Makes the file so large, and its zeros appear in memory; the room on the disk is taken now, so that no write to a page finds
    /// it full.
    ///
    /// - Returns: the pages; they keep the file's bytes when this object has closed it.
    /// - Throws: ``Failure``.
    package func mapped(sizeBytes: Int) throws(Failure) -> OffloadedPages {
        let code = posix_fallocate(descriptor, 0, off_t(sizeBytes))
        guard code == 0 else {
            throw Failure(path: folder, what: "\(sizeBytes) bytes cannot be taken", code: code)
        }
        let address = mmap(nil, sizeBytes, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0)
        guard let address, address != MAP_FAILED else {
            throw Failure(path: folder, what: "the file cannot be mapped", code: errno)
        }
        return OffloadedPages(address: address, sizeBytes: sizeBytes)
    }
}

/// Memory whose pages come from a file and go back to it.
package final class OffloadedPages {
    /// What a tensor's place is a multiple of: a page, so that no two tensors share one.
    package static let granule = Int(getpagesize())

    private let address: UnsafeMutableRawPointer
    private let sizeBytes: Int

    fileprivate init(address: UnsafeMutableRawPointer, sizeBytes: Int) {
        self.address = address
        self.sizeBytes = sizeBytes
    }

    deinit { munmap(address, sizeBytes) }

    /// A tensor over the bytes from an offset on.
    ///
    /// - Throws: `TorchError` if libtorch refuses.
    package func tensor(
        atByte offset: Int, shape: [Int], dtype: DType
    ) throws(TorchError) -> Tensor {
        precondition(offset + shape.reduce(dtype.sizeBytes, *) <= sizeBytes, "beyond the file")
        return try .wrapping(address + offset, shape: shape, dtype: dtype, keeping: self)
    }

    /// Lets a range of whole pages go; what was written to them is the file's, and the kernel puts it on the disk when it needs the room.
    package func release(_ range: Range<Int>) {
        madvise(address + range.lowerBound, range.count, MADV_DONTNEED)
    }
}
