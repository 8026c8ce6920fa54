import CTorch

/// A computation on tensors without elements, to learn what memory it takes.
///
/// Inside of ``peak(of:)`` every new tensor is on libtorch's meta device: it has shape, dtype and a place in the graph, but no
/// memory, and operations compute shapes only. An allocator counts the bytes that each tensor would take, from its making to its
/// end. So the code that trains says itself what it needs, whatever model it runs; nothing can be read out of a tensor.
///
/// Not seen: what kernels take inside of an operation, holes in the heap, and memory that is not a tensor's.
///
/// - Source: the meta device as in PyTorch's `torch/_subclasses/fake_tensor.py`, counted as
///   `torch/distributed/_tools/mem_tracker.py` does.
package enum DryRun {
    /// What memory is taken for.
    package enum Part: Int32, CaseIterable, Sendable {
        /// Activations and gradients, and all that no other part names.
        case activations = 0
        /// The frozen base, as far as this process keeps it.
        case base
        /// The adapter, as far as this process keeps it.
        case adapter
        /// The optimizer's moments, and what an update takes.
        case optimizer
        /// Units of other processes' shards that are here for the moment.
        case gathered
        /// The head and the logits.
        case loss
    }

    /// Whether this thread's tensors have no elements.
    package static var isOn: Bool { ctorch_dry_run_is_on() }

    /// Runs a computation on tensors without elements.
    ///
    /// - Parameter body: makes all tensors that it uses.
    /// - Returns: bytes by part, at the moment when most were alive.
    /// - Throws: what the body throws; `TorchError` for an operation that needs elements.
    package static func peak<Failure: Error>(
        of body: () throws(Failure) -> Void
    ) throws(Failure) -> [Part: Int] {
        precondition(!isOn, "a dry run within a dry run")
        ctorch_dry_run_begin()
        defer { ctorch_dry_run_end() }
        try body()
        var bytes = Array(repeating: Int64(0), count: Int(CTORCH_DRY_RUN_PARTS))
        ctorch_dry_run_peak(&bytes)
        return Dictionary(
            uniqueKeysWithValues: Part.allCases.map { ($0, Int(bytes[Int($0.rawValue)])) })
    }

    /// Counts what is taken inside for a part; outside of a dry run it only calls the body.
    @inline(__always)
    package static func part<Result, Failure: Error>(
        _ part: Part, _ body: () throws(Failure) -> Result
    ) throws(Failure) -> Result {
        guard isOn else { return try body() }
        let outer = ctorch_dry_run_set_part(part.rawValue)
        defer { _ = ctorch_dry_run_set_part(outer) }
        return try body()
    }
}
