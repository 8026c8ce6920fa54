import CTorch

/// Maps the gradients of a node's outputs to the gradients of its inputs; nil means zero.
public typealias Pullback = (_ outputGradients: [Tensor?]) throws(TorchError) -> [Tensor?]

/// Carries a Swift closure through C.
private final class Box<Contents> {
    let contents: Contents
    init(_ contents: Contents) { self.contents = contents }

    static func unwrap(_ context: UnsafeMutableRawPointer?) -> Contents? {
        guard let context else { return nil }
        return Unmanaged<Box>.fromOpaque(context).takeUnretainedValue().contents
    }
}

/// Releases what `passRetained` handed to C.
let releaseContext: CTorchRelease = { context in
    guard let context else { return }
    Unmanaged<AnyObject>.fromOpaque(context).release()
}

/// Runs a callback for C: 0, or 1 with the error's text kept for the C++ side to throw.
private func reporting(_ body: () throws(TorchError) -> Void) -> Int32 {
    do {
        try body()
        return 0
    } catch {
        ctorch_set_callback_error(error.description)
        return 1
    }
}

/// A handle that C takes over.
private func given(_ tensor: Tensor?) throws(TorchError) -> OpaquePointer? {
    guard let tensor else { return nil }
    var out: OpaquePointer?
    try check("alias", [tensor], ctorch_tensor_alias(tensor.handle, &out))
    return out
}

extension Autograd {
    /// Makes one autograd node of a computation whose backward is written in Swift.
    ///
    /// `body` runs without grad. It returns the outputs and the pullback, which may capture inputs and anything computed;
    /// outputs only detached, because a node that holds its own output never dies. Without an input that
    /// requires grad (or with recording off) the pullback is dropped and the outputs are plain values.
    ///
    /// - Parameters:
    ///   - name: shown in errors.
    ///   - inputs: the tensors that gradients are returned for, in the pullback's order.
    ///   - body: the forward computation.
    /// - Returns: the outputs, differentiable with respect to the inputs.
    /// - Throws: `TorchError` of the body, or if an output already has a graph.
    public static func node(
        _ name: String, inputs: [Tensor],
        _ body: () throws(TorchError) -> (outputs: [Tensor], pullback: Pullback)
    ) throws(TorchError) -> [Tensor] {
        let trace = Trace.current
        let node = trace?.makeNode()
        var (outputs, pullback) = try withoutGrad { () throws(TorchError) in
            guard let trace, let node else { return try Profile.range(name, body) }
            return try trace.inside(node, isPullback: false, body)
        }
        if let trace, let node { pullback = trace.watching(node, name, pullback) }
        let inputHandles: [OpaquePointer?] = inputs.map(\.handle)
        let outputHandles: [OpaquePointer?] = outputs.map(\.handle)
        let status = ctorch_autograd_node(
            name, inputHandles, Int32(inputs.count), outputHandles, Int32(outputs.count),
            { context, incoming, numOutputs, outgoing, numInputs in
                reporting { () throws(TorchError) in
                    guard let pullback = Box<Pullback>.unwrap(context), let incoming, let outgoing
                    else { throw TorchError(operation: "node", message: "no pullback") }
                    var gradients: [Tensor?] = []
                    for index in 0..<Int(numOutputs) {
                        gradients.append(try incoming[index].map(Tensor.borrowing))
                    }
                    let result = try pullback(gradients)
                    guard result.count == Int(numInputs) else {
                        throw TorchError(
                            operation: "node",
                            message: "\(result.count) gradients for \(numInputs) inputs")
                    }
                    for (index, gradient) in result.enumerated() {
                        outgoing[index] = try given(gradient)
                    }
                }
            },
            releaseContext, Unmanaged.passRetained(Box(pullback)).toOpaque())
        withExtendedLifetime(inputs) {}
        try check("node", inputs, status)
        if let trace, let node { trace.note(name, inputs, outputs, as: .node(node)) }
        return outputs
    }

    /// Runs `body` now without saving anything and again in backward (activation checkpointing).
    ///
    /// Parameters are explicit inputs of the node, so that a frozen input cannot cut the graph: gradients reach every
    /// tensor of `parameters` even if `input` does not require grad.
    ///
    /// - Parameters:
    ///   - input: the tensor that flows through; the only one that `body` takes as an argument.
    ///   - parameters: every tensor requiring grad that `body` captures.
    ///   - body: deterministic; what random numbers it draws it must draw again alike.
    /// - Returns: the output of `body`.
    /// - Throws: `TorchError` of the body.
    /// - Memory: input and output stay, all between is freed and computed again in backward.
    /// - Source: Chen et al. 2016, "Training Deep Nets with Sublinear Memory Cost".
    public static func recomputed(
        input: Tensor, parameters: [Tensor],
        _ body: @escaping (Tensor) throws(TorchError) -> Tensor
    ) throws(TorchError) -> Tensor {
        let inputNeedsGrad = input.requiresGrad
        let outputs = try node("recomputed", inputs: [input] + parameters) {
            () throws(TorchError) -> (outputs: [Tensor], pullback: Pullback) in
            let saved = try input.detach()
            // An alias, so that a body that returns its input does not make the node hold its own output.
            let output = try body(saved.detach())
            return (
                [output],
                { outputGradients throws(TorchError) in
                    guard outputGradients[0] != nil else {
                        return [nil] + parameters.map { _ in nil }
                    }
                    return try withGradEnabled(true) { () throws(TorchError) -> [Tensor?] in
                        let leaf = try saved.detach()
                        try leaf.setRequiresGrad(inputNeedsGrad)
                        let wanted = (inputNeedsGrad ? [leaf] : []) + parameters
                        let gradients = try Autograd.gradientsInsideNode(
                            of: body(leaf), gradient: outputGradients[0], withRespectTo: wanted)
                        return inputNeedsGrad ? gradients : [nil] + gradients
                    }
                }
            )
        }
        return outputs[0]
    }
}

// MARK: - Hooks

extension Tensor {
    /// A registered hook, to remove it by.
    public struct HookToken {
        let position: UInt32
    }

    /// Calls `hook` with this tensor's gradient in every backward; what it returns replaces the gradient.
    ///
    /// - Throws: `TorchError` if the tensor does not require grad.
    @discardableResult
    public func addGradientHook(
        _ hook: @escaping (Tensor) throws(TorchError) -> Tensor?
    ) throws(TorchError) -> HookToken {
        typealias Hook = (Tensor) throws(TorchError) -> Tensor?
        var position: UInt32 = 0
        let status = ctorch_autograd_add_hook(
            handle,
            { context, gradient, replacement in
                reporting { () throws(TorchError) in
                    guard let hook = Box<Hook>.unwrap(context), let gradient, let replacement
                    else { throw TorchError(operation: "hook", message: "no closure") }
                    replacement.pointee = try given(try hook(try .borrowing(gradient)))
                }
            },
            releaseContext, Unmanaged.passRetained(Box<Hook>(hook)).toOpaque(), &position)
        try check("add hook", [self], status)
        return HookToken(position: position)
    }

    /// Removes a hook of this tensor.
    ///
    /// - Throws: `TorchError` if the token is not of this tensor.
    public func removeGradientHook(_ token: HookToken) throws(TorchError) {
        try check("remove hook", [self], ctorch_autograd_remove_hook(handle, token.position))
    }

    /// Calls `hook` after backward has added to this leaf's `grad`; replaces an earlier one.
    ///
    /// - Throws: `TorchError` if the tensor is not a leaf that requires grad.
    public func setAccumulateHook(
        _ hook: @escaping (Tensor) throws(TorchError) -> Void
    ) throws(TorchError) {
        typealias Hook = (Tensor) throws(TorchError) -> Void
        let status = ctorch_autograd_set_accumulate_hook(
            handle,
            { context, parameter in
                reporting { () throws(TorchError) in
                    guard let hook = Box<Hook>.unwrap(context), let parameter
                    else { throw TorchError(operation: "hook", message: "no closure") }
                    try hook(try .borrowing(parameter))
                }
            },
            releaseContext, Unmanaged.passRetained(Box<Hook>(hook)).toOpaque())
        try check("set accumulate hook", [self], status)
    }
}
