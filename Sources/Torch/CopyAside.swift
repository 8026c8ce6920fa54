import CTorch

/// A copy from host memory to a device that goes on while the device computes.
///
/// It begins when the device has done what was asked of it until now. From page-locked memory (``Tensor/pinned(_:dtype:)``) it needs
/// nobody; from other host memory the caller waits for it.
package final class CopyAside {
    private let handle: OpaquePointer
    // Both stay where they are until the copy is waited for.
    private let target: Tensor
    private let source: Tensor

    /// Begins to copy.
    ///
    /// - Parameters:
    ///   - target: on a device; not to be used before ``wait()``.
    ///   - source: of the same shape and dtype, in host memory; not changed before the device has done the copy.
    /// - Throws: `TorchError` if the device refuses.
    package init(to target: Tensor, from source: Tensor) throws(TorchError) {
        var out: OpaquePointer?
        guard ctorch_device_copy_aside(target.handle, source.handle, &out) == 0, let out else {
            throw TorchError.last("copy aside", [target, source])
        }
        (handle, self.target, self.source) = (out, target, source)
    }

    deinit {
        ctorch_device_copy_free(handle)
    }

    /// Lets what is asked of the device from here on come after the copy; the caller does not wait.
    ///
    /// - Throws: `TorchError` if the device refuses.
    package func wait() throws(TorchError) {
        try check("copy aside", [target], ctorch_device_copy_wait(handle))
    }
}
