import Glibc

extension Tensor {
    /// A tensor in pages of its own, which go back to the system when it dies; its elements are zero.
    ///
    /// For what must leave memory at once when it is moved to a file, whatever allocator the process has.
    package static func paged(_ shape: [Int], dtype: DType) throws(TorchError) -> Tensor {
        let sizeBytes = shape.reduce(dtype.sizeBytes, *)
        guard sizeBytes > 0, !DryRun.isOn else { return try Tensor.empty(shape, dtype: dtype) }
        guard let pages = AnonymousPages(sizeBytes: sizeBytes) else {
            throw TorchError(
                operation: "Tensor.paged", operands: ["\(dtype.name)\(shape)"],
                message: "out of memory: \(sizeBytes) bytes cannot be allocated")
        }
        return try Tensor.wrapping(pages.address, shape: shape, dtype: dtype, keeping: pages)
    }
}

/// Memory that comes from the system and goes back to it.
private final class AnonymousPages {
    let address: UnsafeMutableRawPointer
    private let sizeBytes: Int

    /// Takes pages; nil if the system has none.
    init?(sizeBytes: Int) {
        guard
            let address = mmap(
                nil, sizeBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0),
            address != MAP_FAILED
        else { return nil }
        self.address = address
        self.sizeBytes = sizeBytes
    }

    deinit {
        munmap(address, sizeBytes)
    }
}
