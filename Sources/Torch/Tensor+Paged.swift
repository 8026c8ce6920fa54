import Glibc

extension Tensor {
    /// A tensor in pages of its own, which go back to the system when it dies; its elements are zero.
    ///
    /// For weights that live until they are quantized. In the heap they would alternate with the quantized weights that
    /// stay, and the holes that they leave are not used again: glibc before 2.38 places no aligned block in a freed
    /// block of its size.
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
