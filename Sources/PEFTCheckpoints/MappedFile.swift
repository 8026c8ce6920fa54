public import Foundation
import Glibc

/// A file mapped read-only into memory; the mapping lives as long as this object.
///
/// Pages are read when they are touched and leave the resident set again with `release`, so reading a
/// model tensor by tensor needs memory for one tensor at a time. Nothing may write to the mapping.
public final class MappedFile {
    /// Where the file is.
    public let url: URL
    /// The length of the file.
    public let sizeBytes: Int
    /// The first byte of the mapping.
    package let baseAddress: UnsafeRawPointer

    /// The kernel maps up to this many bytes around a fault, so `release` drops whole windows of it.
    private static let faultWindowBytes = 65_536

    /// Maps the file at `url`.
    ///
    /// - Throws: `CheckpointError.cannotRead` if it is missing, a folder, empty or not readable.
    public init(_ url: URL) throws(CheckpointError) {
        let path = url.path
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { throw Self.openError(path: path, code: errno) }
        defer { close(descriptor) }
        var status = stat()
        guard fstat(descriptor, &status) == 0 else {
            throw Self.openError(path: path, code: errno)
        }
        guard status.st_mode & S_IFMT == S_IFREG else {
            let kind = status.st_mode & S_IFMT == S_IFDIR ? "it is a folder" : "it is not a file"
            throw .cannotRead(path: path, reason: kind, remedy: "give the path of a file")
        }
        guard status.st_size > 0 else {
            throw .cannotRead(
                path: path, reason: "the file is empty", remedy: "copy or download the file again")
        }
        let size = Int(status.st_size)
        guard let address = mmap(nil, size, PROT_READ, MAP_PRIVATE, descriptor, 0),
            address != MAP_FAILED
        else { throw Self.openError(path: path, code: errno) }
        self.url = url
        sizeBytes = size
        baseAddress = UnsafeRawPointer(address)
    }

    deinit {
        munmap(UnsafeMutableRawPointer(mutating: baseAddress), sizeBytes)
    }

    /// Reads the bytes of `range`, or of the whole file, where they are.
    ///
    /// - Precondition: `range` lies in the file.
    package func withBytes<Result, Failure: Error>(
        in range: Range<Int>? = nil,
        _ body: (UnsafeRawBufferPointer) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        defer { withExtendedLifetime(self) {} }
        let bytes = UnsafeRawBufferPointer(start: baseAddress, count: sizeBytes)
        return try body(range.map { UnsafeRawBufferPointer(rebasing: bytes[$0]) } ?? bytes)
    }

    /// A copy of the whole file.
    package func contents() -> Data { withBytes { Data($0) } }

    /// Starts to read `range` from the disk ahead of its use.
    public func prefetch(_ range: Range<Int>) {
        advise(range, granularity: Int(getpagesize()), MADV_WILLNEED)
    }

    /// Lets the pages of `range` leave the resident set; reading them later fetches them again.
    public func release(_ range: Range<Int>) {
        advise(range, granularity: Self.faultWindowBytes, MADV_DONTNEED)
    }

    private func advise(_ range: Range<Int>, granularity: Int, _ advice: Int32) {
        guard !range.isEmpty else { return }
        let start = range.lowerBound / granularity * granularity
        let end = min((range.upperBound + granularity - 1) / granularity * granularity, sizeBytes)
        madvise(UnsafeMutableRawPointer(mutating: baseAddress + start), end - start, advice)
    }

    private static func openError(path: String, code: Int32) -> CheckpointError {
        switch code {
        case ENOENT, ENOTDIR:
            .cannotRead(path: path, reason: "no such file", remedy: "check the path")
        case EACCES, EPERM:
            .cannotRead(
                path: path, reason: "permission denied",
                remedy: "give your user the right to read it")
        default:
            .cannotRead(
                path: path, reason: String(cString: strerror(code)), remedy: "check the disk")
        }
    }
}

/// Keeps a mapping alive for one tensor, and lets the tensor's pages go when the tensor dies.
package final class MappedRange {
    private let file: MappedFile
    private let range: Range<Int>

    /// Holds `range` of `file` and starts to read it ahead.
    package init(_ file: MappedFile, _ range: Range<Int>) {
        self.file = file
        self.range = range
        file.prefetch(range)
    }

    deinit {
        file.release(range)
    }

    /// Reads the bytes of the range where they are.
    package func withBytes<Result, Failure: Error>(
        _ body: (UnsafeRawBufferPointer) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        defer { withExtendedLifetime(self) {} }
        return try file.withBytes(in: range, body)
    }
}

extension UnsafeRawBufferPointer {
    /// Whether both hold the same bytes; `elementsEqual` looks at one byte at a time.
    func holdsSameBytes(as other: UnsafeRawBufferPointer) -> Bool {
        guard count == other.count else { return false }
        guard let start = baseAddress, let otherStart = other.baseAddress else { return true }
        return memcmp(start, otherStart, count) == 0
    }
}
