import CTorch

/// How a reduction combines the ranks' elements; raw values are the C shim's codes.
package enum Reduction: Int32, Sendable, CaseIterable {
    /// `sum over ranks`, in the tensor's dtype.
    case sum = 0
    /// `sum over ranks / number of ranks`; floating-point dtypes only.
    case average = 1
    /// The largest element.
    case max = 2
}

/// Each collective has two forms: `start…` returns work to wait for, the other waits itself.
///
/// The label says what a call is for (`gather of model.layers.3`). It must be the same on all ranks; it is compared with
/// the rest of the call. Tensors are contiguous; autograd does not see what happens to them. Over Gloo those on a device go by way of
/// copies in host memory, and have the result when the work has been waited for.
extension ProcessGroup {
    /// Starts to replace `tensor` on every rank by the reduction of all ranks' tensors.
    ///
    /// - Parameters:
    ///   - tensor: any shape, the same on all ranks; changed in place.
    ///   - reduction: how elements are combined.
    ///   - label: what it is for.
    /// - Returns: work to wait for.
    /// - Throws: `CollectiveError` if the dtype has no such reduction, or if the group has ended.
    package func startAllReduce(
        _ tensor: Tensor, _ reduction: Reduction = .sum, label: String = ""
    ) throws(CollectiveError) -> CollectiveWork {
        try checkReduction("allReduce", reduction, [tensor])
        let near = try reachable(tensor)
        return try start(
            "allReduce", " of \(tensor.sharedSummary), \(reduction)", label,
            sentBytes: 2 * (size - 1) * tensor.sizeBytes / size
        ) {
            ctorch_distributed_all_reduce($0, $1, near.handle, reduction.rawValue, $2)
        }.deliver(near, to: tensor)
    }

    /// Replaces `tensor` on every rank by the reduction of all ranks' tensors.
    package func allReduce(
        _ tensor: Tensor, _ reduction: Reduction = .sum, label: String = ""
    ) throws(CollectiveError) {
        try startAllReduce(tensor, reduction, label: label).wait()
    }

    /// Starts to copy the root's tensor into the tensor of every other rank.
    ///
    /// - Parameters:
    ///   - tensor: any shape and dtype, the same on all ranks; changed in place except on the root.
    ///   - root: the rank whose elements are copied.
    ///   - label: what it is for.
    /// - Returns: work to wait for.
    /// - Throws: `CollectiveError` if there is no such root, or if the group has ended.
    package func startBroadcast(
        _ tensor: Tensor, from root: Int, label: String = ""
    ) throws(CollectiveError) -> CollectiveWork {
        guard (0..<size).contains(root) else {
            throw refusal(of: "broadcast", "root \(root) is no rank; ranks are 0 to \(size - 1)")
        }
        try checkContiguous("broadcast", [tensor])
        let near = try reachable(tensor)
        return try start(
            "broadcast", " of \(tensor.sharedSummary) from rank \(root)", label,
            sentBytes: rank == root ? tensor.sizeBytes : 0
        ) {
            ctorch_distributed_broadcast($0, $1, near.handle, Int32(root), $2)
        }.deliver(near, to: tensor)
    }

    /// Copies the root's tensor into the tensor of every other rank.
    package func broadcast(
        _ tensor: Tensor, from root: Int, label: String = ""
    ) throws(CollectiveError) {
        try startBroadcast(tensor, from: root, label: label).wait()
    }

    /// Starts to write all ranks' inputs into `output`, one after the other in the order of the ranks.
    ///
    /// - Parameters:
    ///   - input: n elements of any dtype, n the same on all ranks.
    ///   - output: size * n elements of the same dtype.
    ///   - label: what it is for.
    /// - Returns: work to wait for.
    /// - Throws: `CollectiveError` if the sizes do not fit, or if the group has ended.
    package func startAllGather(
        _ input: Tensor, into output: Tensor, label: String = ""
    ) throws(CollectiveError) -> CollectiveWork {
        try checkParts("allGather", part: input, whole: output)
        let (part, whole) = (try reachable(input), try reachable(output))
        return try start(
            "allGather", " of \(input.sharedSummary)", label,
            sentBytes: (size - 1) * input.sizeBytes
        ) {
            ctorch_distributed_all_gather($0, $1, part.handle, whole.handle, $2)
        }.deliver(whole, to: output)
    }

    /// Writes all ranks' inputs into `output`, one after the other in the order of the ranks.
    package func allGather(
        _ input: Tensor, into output: Tensor, label: String = ""
    ) throws(CollectiveError) {
        try startAllGather(input, into: output, label: label).wait()
    }

    /// Starts to reduce all ranks' inputs and to write this rank's part of the result into `output`.
    ///
    /// - Parameters:
    ///   - input: size * n elements, the part for rank 0 first.
    ///   - output: n elements of the same dtype.
    ///   - reduction: how elements are combined.
    ///   - label: what it is for.
    /// - Returns: work to wait for.
    /// - Throws: `CollectiveError` if the sizes do not fit or the dtype has no such reduction, or if the group has ended.
    package func startReduceScatter(
        _ input: Tensor, into output: Tensor, _ reduction: Reduction = .sum, label: String = ""
    ) throws(CollectiveError) -> CollectiveWork {
        try checkReduction("reduceScatter", reduction, [input])
        try checkParts("reduceScatter", part: output, whole: input)
        let (whole, part) = (try reachable(input), try reachable(output))
        return try start(
            "reduceScatter", " of \(input.sharedSummary), \(reduction)", label,
            sentBytes: (size - 1) * output.sizeBytes
        ) {
            ctorch_distributed_reduce_scatter(
                $0, $1, whole.handle, part.handle, reduction.rawValue, $2)
        }.deliver(part, to: output)
    }

    /// Reduces all ranks' inputs and writes this rank's part of the result into `output`.
    package func reduceScatter(
        _ input: Tensor, into output: Tensor, _ reduction: Reduction = .sum, label: String = ""
    ) throws(CollectiveError) {
        try startReduceScatter(input, into: output, reduction, label: label).wait()
    }

    /// Waits until every rank has come here, all earlier calls done.
    package func barrier(label: String = "") throws(CollectiveError) {
        try start("barrier", "", label, sentBytes: 0) {
            ctorch_distributed_barrier($0, $1, $2)
        }.wait()
    }

    // MARK: - Devices

    /// The tensor where the backend moves data: for Gloo a copy in host memory of one that is on a device.
    private func reachable(_ tensor: Tensor) throws(CollectiveError) -> Tensor {
        guard backend == .gloo else { return tensor }
        return try copying { () throws(TorchError) in try tensor.to(.cpu) }
    }

    /// Runs what copies tensors between devices, for a call.
    func copying<Result>(
        _ body: () throws(TorchError) -> Result
    ) throws(CollectiveError) -> Result {
        do {
            return try withoutGrad(body)
        } catch {
            throw refusal(of: "copy", error.description)
        }
    }

    // MARK: - Checks

    private func checkContiguous(
        _ name: String, _ tensors: [Tensor]
    ) throws(CollectiveError) {
        for tensor in tensors where !tensor.isContiguous {
            throw refusal(of: name, "\(tensor.summary) is strided: call contiguous() first")
        }
    }

    private func checkReduction(
        _ name: String, _ reduction: Reduction, _ tensors: [Tensor]
    ) throws(CollectiveError) {
        try checkContiguous(name, tensors)
        for tensor in tensors {
            if [.bool, .int16].contains(tensor.dtype) {
                throw refusal(
                    of: name, "\(tensor.summary) cannot be reduced: convert it to int32 first")
            }
            if reduction == .average, !tensor.dtype.isFloatingPoint {
                throw refusal(
                    of: name,
                    """
                    the average of \(tensor.summary) is no \(tensor.dtype.name): convert it to float32 first, \
                    or take the sum
                    """)
            }
        }
    }

    private func checkParts(
        _ name: String, part: Tensor, whole: Tensor
    ) throws(CollectiveError) {
        try checkContiguous(name, [part, whole])
        guard part.dtype == whole.dtype, whole.numElements == size * part.numElements else {
            throw refusal(
                of: name,
                """
                \(whole.summary) is not \(size) times \(part.summary): expected \
                \(size * part.numElements) elements of \(part.dtype.name)
                """)
        }
    }
}
