import CTorch

/// Tensors whose memory comes and goes while they stay: what a gathered unit is made of.
///
/// A storage of bytes has no memory until a buffer lends it its own; all tensors over it then have elements, and have none
/// again when the buffer is taken back. Modules keep their tensors all the time and notice nothing of it.
extension Tensor {
    /// A storage without memory, as uint8 `[sizeBytes]`.
    ///
    /// - Parameters:
    ///   - sizeBytes: of the storage.
    ///   - owner: named in the error of an operation that uses it without memory.
    ///   - device: where the memory will be that is lent to it.
    /// - Returns: the storage as a tensor.
    /// - Throws: `TorchError` if libtorch refuses.
    /// - Memory: none.
    package static func storage(
        sizeBytes: Int, of owner: String, on device: Device = .cpu
    ) throws(TorchError) -> Tensor {
        try make("storage", []) {
            ctorch_storage_make(Int64(sizeBytes), device.shim, Self.absence(of: owner), $0)
        }
    }

    /// A tensor over this storage's bytes from an offset on; it has elements whenever the storage has memory.
    ///
    /// - Throws: `TorchError` if the offset does not suit the dtype, or the tensor ends beyond the storage.
    package func view(
        atByte offset: Int, shape: [Int], dtype: DType
    ) throws(TorchError) -> Tensor {
        let sizes = shape.map(Int64.init)
        return try .make("view", [self]) {
            ctorch_storage_view(
                handle, Int64(offset), sizes, Int32(sizes.count), dtype.rawValue, $0)
        }
    }

    /// Lends this storage the memory of a buffer, which lives at least until the storage gives it back.
    ///
    /// - Throws: `TorchError` if the buffer is smaller, or on another device.
    package func lend(_ buffer: Tensor) throws(TorchError) {
        try check("lend", [self, buffer], ctorch_storage_lend(handle, buffer.handle, ""))
    }

    /// Takes the memory of this storage away; what uses it now fails.
    ///
    /// - Parameter owner: named in the error of an operation that uses it.
    /// - Throws: `TorchError` if libtorch refuses.
    package func giveBack(of owner: String) throws(TorchError) {
        try check(
            "give back", [self], ctorch_storage_lend(handle, nil, Self.absence(of: owner)))
    }

    /// Makes this leaf a view of what another tensor is a view of; who holds it holds the same tensor as before.
    ///
    /// - Parameter other: the same shape and dtype.
    /// - Throws: `TorchError` if libtorch refuses.
    package func adopt(_ other: Tensor) throws(TorchError) {
        precondition(shape == other.shape && dtype == other.dtype, "another kind of tensor")
        try check("adopt", [self, other], ctorch_storage_adopt(handle, other.handle))
    }

    private static func absence(of owner: String) -> String {
        "\(owner) is not in memory: it was used outside of its unit's run"
    }
}
