import CTorch

/// A collective that is under way.
///
/// Until ``wait()`` returns, its tensors must be neither read nor written. A work that nobody waits for is carried out
/// all the same, and its failure shows in the group's next call.
package final class CollectiveWork {
    /// The call and its group; nil in a dry run, in which it has ended at once.
    private let call: (handle: OpaquePointer, group: ProcessGroup)?
    /// What stands for tensors on a device that the backend does not reach; copied there when the data is here.
    private var results: [(copy: Tensor, tensor: Tensor)] = []

    /// Takes over a handle that the C shim made.
    init(owning handle: OpaquePointer, of group: ProcessGroup) {
        call = (handle, group)
    }

    /// Copies a result to the tensor that it is for, when this work is waited for; nothing if it is the tensor itself.
    ///
    /// - Returns: self.
    func deliver(_ copy: Tensor, to tensor: Tensor) -> CollectiveWork {
        if !copy.isSame(as: tensor) { results.append((copy, tensor)) }
        return self
    }

    /// Work of a dry run.
    init() { call = nil }

    deinit {
        if let call { ctorch_distributed_work_free(call.handle) }
    }

    /// Whether it has ended, well or not; does not wait.
    package var isFinished: Bool {
        call.map { ctorch_distributed_work_is_finished($0.handle) } ?? true
    }

    /// Waits until the data is there; the group's timeout bounds it.
    ///
    /// - Throws: `CollectiveError` of the first collective that failed in the group, this one or an earlier one.
    package func wait() throws(CollectiveError) {
        guard let call else { return }
        if !ctorch_distributed_work_wait(call.handle) { try call.group.throwIfFailed() }
        defer { results = [] }
        for (copy, tensor) in results {
            try call.group.copying { () throws(TorchError) in try tensor.copyInPlace(from: copy) }
        }
    }
}
