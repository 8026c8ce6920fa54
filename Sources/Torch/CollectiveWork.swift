import CTorch

/// A collective that is under way.
///
/// Until ``wait()`` returns, its tensors must be neither read nor written. A work that nobody waits for is carried out
/// all the same, and its failure shows in the group's next call.
package final class CollectiveWork {
    private let handle: OpaquePointer
    private let group: ProcessGroup

    /// Takes over a handle that the C shim made.
    init(owning handle: OpaquePointer, of group: ProcessGroup) {
        self.handle = handle
        self.group = group
    }

    deinit {
        ctorch_distributed_work_free(handle)
    }

    /// Whether it has ended, well or not; does not wait.
    package var isFinished: Bool { ctorch_distributed_work_is_finished(handle) }

    /// Waits until the data is there; the group's timeout bounds it.
    ///
    /// - Throws: `CollectiveError` of the first collective that failed in the group, this one or an earlier one.
    package func wait() throws(CollectiveError) {
        guard !ctorch_distributed_work_wait(handle) else { return }
        try group.throwIfFailed()
    }
}
