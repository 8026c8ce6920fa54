import CTorch

/// A record of every operation of this thread, with times and shapes, as a Chrome trace.
///
/// The trace opens in Perfetto or in `chrome://tracing`. Layers, autograd nodes and steps are ranges around their operations.
///
/// - Source: libtorch's profiler, `torch/csrc/autograd/profiler_kineto.h`, as `torch.profiler.profile` uses it.
package enum Profile {
    /// Whether operations are recorded.
    package static var isOn: Bool { ctorch_profile_is_on() }

    /// Begins to record.
    ///
    /// - Throws: `TorchError` if a record is made already.
    /// - Memory: about half a kilobyte an operation, until it ends.
    package static func begin() throws(TorchError) {
        try check("profile", [], ctorch_profile_begin())
    }

    /// Ends the record.
    ///
    /// - Parameter path: where the trace is written; nil forgets it.
    /// - Throws: `TorchError` if there is no record.
    package static func end(writingTo path: String?) throws(TorchError) {
        try check("profile", [], ctorch_profile_end(path))
    }

    /// Runs a part of the work as a range of the record.
    ///
    /// Without a record it costs a look at a thread's variable.
    @inline(__always)
    package static func range<Result, Failure: Error>(
        _ name: @autoclosure () -> String, _ body: () throws(Failure) -> Result
    ) throws(Failure) -> Result {
        guard isOn else { return try body() }
        let range = ctorch_profile_range_begin(name())
        defer { ctorch_profile_range_end(range) }
        return try body()
    }
}
