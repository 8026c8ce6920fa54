import CTorch

/// Runs `body` without recording operations for backward.
public func withoutGrad<Result, Failure: Error>(
    _ body: () throws(Failure) -> Result
) throws(Failure) -> Result {
    try withGradEnabled(false, body)
}

/// Runs `body` with recording on or off, and restores what was.
public func withGradEnabled<Result, Failure: Error>(
    _ isEnabled: Bool, _ body: () throws(Failure) -> Result
) throws(Failure) -> Result {
    let previous = ctorch_autograd_set_enabled(isEnabled)
    defer { _ = ctorch_autograd_set_enabled(previous) }
    guard let trace = Trace.current else { return try body() }
    return try trace.region(isEnabled: isEnabled, body)
}

/// Differentiation of recorded operations.
public enum Autograd {
    /// Whether operations are being recorded on this thread.
    public static var isEnabled: Bool { ctorch_autograd_is_enabled() }

    /// The gradients of `outputs` with respect to `inputs`; leaves every `grad` as it is.
    ///
    /// - Parameters:
    ///   - outputs: tensors with a graph.
    ///   - gradients: one for each output; nil means 1, for scalars only.
    ///   - inputs: tensors that require grad.
    ///   - retainGraph: keeps what the nodes saved for another backward.
    ///   - runsHooks: whether gradient hooks of leaves see these gradients; false in a pullback, whose result passes them later.
    /// - Returns: one for each input; nil where no output depends on it.
    /// - Throws: `TorchError` if an output has no graph, or a pullback's error.
    public static func gradients(
        of outputs: [Tensor], gradients: [Tensor?]? = nil, withRespectTo inputs: [Tensor],
        retainGraph: Bool = false, runsHooks: Bool = true
    ) throws(TorchError) -> [Tensor?] {
        try requireGraph(outputs)
        Trace.current?.note("gradients", outputs, as: .differentiation)
        let outputHandles: [OpaquePointer?] = outputs.map(\.handle)
        let given: [Tensor?] = gradients ?? outputs.map { _ in nil }
        let gradientHandles = given.map { $0?.handle }
        let inputHandles: [OpaquePointer?] = inputs.map(\.handle)
        var result = [OpaquePointer?](repeating: nil, count: inputs.count)
        let status = ctorch_autograd_gradients(
            outputHandles, gradientHandles, Int32(outputs.count), inputHandles,
            Int32(inputs.count), retainGraph, runsHooks, &result)
        withExtendedLifetime(given) {}
        try check("gradients", outputs, status)
        return result.map { $0.map(Tensor.init(owning:)) }
    }

    /// Adds the gradients of `outputs` to the `grad` of every leaf that they depend on.
    ///
    /// - Parameters:
    ///   - outputs: tensors with a graph.
    ///   - gradients: one for each output; nil means 1, for scalars only.
    ///   - retainGraph: keeps what the nodes saved for another backward.
    /// - Throws: `TorchError` if an output has no graph, or a pullback's error.
    public static func backward(
        _ outputs: [Tensor], gradients: [Tensor?]? = nil, retainGraph: Bool = false
    ) throws(TorchError) {
        try requireGraph(outputs)
        Trace.current?.note("backward", outputs, as: .differentiation)
        let outputHandles: [OpaquePointer?] = outputs.map(\.handle)
        let given: [Tensor?] = gradients ?? outputs.map { _ in nil }
        let status = ctorch_autograd_backward(
            outputHandles, given.map { $0?.handle }, Int32(outputs.count), retainGraph)
        withExtendedLifetime(given) {}
        try check("backward", outputs, status)
    }

    /// The gradients of one output that may have been cut off inside of a node: then there are none.
    ///
    /// For pullbacks and bodies of nodes; hooks of leaves see the whole gradient later. See ``gradients(of:gradients:withRespectTo:retainGraph:runsHooks:)``.
    public static func gradientsInsideNode(
        of output: Tensor, gradient: Tensor? = nil, withRespectTo inputs: [Tensor]
    ) throws(TorchError) -> [Tensor?] {
        guard output.requiresGrad else {
            Trace.current?.note("gradients", [output], as: .differentiation)
            return inputs.map { _ in nil }
        }
        return try gradients(
            of: [output], gradients: [gradient], withRespectTo: inputs, runsHooks: false)
    }

    /// Says what is wrong in the place of libtorch's "element 0 of tensors does not require grad".
    private static func requireGraph(_ outputs: [Tensor]) throws(TorchError) {
        for (index, output) in outputs.enumerated() where !output.requiresGrad {
            throw TorchError(
                operation: "backward", operands: [output.summary],
                message: """
                    output \(index) does not depend on any tensor that requires grad, so there is \
                    nothing to differentiate; was it computed without grad, detached, or are all \
                    its parameters frozen? GradientReport finds the place
                    """,
                isLossWithoutGraph: true)
        }
    }
}

extension Tensor {
    /// Adds the gradients of self to the `grad` of every leaf that it depends on.
    ///
    /// - Parameter gradient: the gradient of self; nil means 1, for scalars only.
    /// - Throws: `TorchError` if self has no graph.
    public func backward(gradient: Tensor? = nil) throws(TorchError) {
        try Autograd.backward([self], gradients: [gradient])
    }

    /// The same values without history.
    public func detach() throws(TorchError) -> Tensor {
        try .make("detach", [self]) { ctorch_autograd_detach(handle, $0) }
    }

    /// Whether an operation recorded for backward made this tensor; false for leaves.
    public var hasGraph: Bool { ctorch_autograd_has_graph(handle) }

    /// Turns recording for this leaf on or off.
    ///
    /// - Throws: `TorchError` for a tensor that is not a leaf or not floating-point.
    public func setRequiresGrad(_ value: Bool) throws(TorchError) {
        try check("requires_grad_", [self], ctorch_autograd_set_requires_grad(handle, value))
    }

    /// The gradient that backward accumulated on this leaf.
    public var grad: Tensor? {
        var out: OpaquePointer?
        guard ctorch_autograd_get_grad(handle, &out) == 0 else { return nil }
        return out.map(Tensor.init(owning:))
    }

    /// Replaces the accumulated gradient; nil clears it.
    ///
    /// - Throws: `TorchError` if libtorch refuses the gradient.
    public func setGrad(_ gradient: Tensor?) throws(TorchError) {
        try check("set grad", [self, gradient], ctorch_autograd_set_grad(handle, gradient?.handle))
    }
}
