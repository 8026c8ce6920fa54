public import Torch

/// What belongs to one decoder block: the unit that is recomputed, and later gathered or offloaded, as a whole.
public struct ModuleUnit {
    /// The Hugging Face path of the block: `model.layers.0`.
    public let path: String
    /// Norms, biases and embeddings of the block.
    public let parameters: [Parameter]
    /// Linear layers of the block.
    public let linears: [Linear]

    /// The tensors of the block and its adapters that the optimizer updates.
    public var trainableParameters: [Parameter] {
        parameters.flatMap(\.trained) + linears.flatMap(\.trainableParameters)
    }
}

/// Answers: how is one decoder block run.
///
/// Conformers nest: each gets the next one in and calls it for the body.
public protocol BlockExecution: AnyObject {
    /// Runs a block.
    ///
    /// - Parameters:
    ///   - unit: what the block consists of.
    ///   - hiddenStates: the block's input, `[tokens, hidden]`.
    ///   - body: the block's computation; deterministic.
    /// - Returns: the block's output, `[tokens, hidden]`.
    /// - Throws: `TorchError` of the body.
    func run(
        _ unit: ModuleUnit, _ hiddenStates: Tensor,
        _ body: @escaping (Tensor) throws(TorchError) -> Tensor
    ) throws(TorchError) -> Tensor

    /// Runs what is around the blocks, which is never recomputed, with its tensors in memory.
    ///
    /// - Parameters:
    ///   - end: which end of the model.
    ///   - body: uses the tensors of that end, in forward only.
    /// - Returns: what the body returns.
    /// - Throws: `TorchError` of the body.
    func atEnd<Result>(
        _ end: ModelEnd, _ body: () throws(TorchError) -> Result
    ) throws(TorchError) -> Result
}

/// What is around the decoder blocks.
public enum ModelEnd: Sendable, CaseIterable {
    /// The embedding, before the blocks.
    case input
    /// The output head, after them.
    case output
}

extension BlockExecution {
    /// Runs a block; what happens in it is traced as the block's.
    ///
    /// - Throws: `TorchError` of the body.
    public func callAsFunction(
        _ unit: ModuleUnit, _ hiddenStates: Tensor,
        _ body: @escaping (Tensor) throws(TorchError) -> Tensor
    ) throws(TorchError) -> Tensor {
        try Trace.layer(unit.path) { () throws(TorchError) in
            try run(unit, hiddenStates, body)
        }
    }

    /// Calls the body: what holds the model whole has nothing to do for its ends.
    public func atEnd<Result>(
        _ end: ModelEnd, _ body: () throws(TorchError) -> Result
    ) throws(TorchError) -> Result {
        try body()
    }
}

/// Runs a block as it is: its tensors are in memory, its activations stay for backward.
public final class ResidentExecution: BlockExecution {
    /// Makes the plain execution.
    public init() {}

    /// Calls the body.
    public func run(
        _ unit: ModuleUnit, _ hiddenStates: Tensor,
        _ body: @escaping (Tensor) throws(TorchError) -> Tensor
    ) throws(TorchError) -> Tensor {
        try body(hiddenStates)
    }
}

/// Activation checkpointing: keeps a block's input only and computes the block again in backward, for every block or every n-th one.
///
/// The block's trainable tensors are explicit inputs of the autograd node, so that gradients reach them even where
/// the hidden states do not require grad: no `enable_input_require_grads` is needed.
public final class RecomputedExecution: BlockExecution {
    private let inner: any BlockExecution
    private let interval: Int
    /// Blocks in the order in which they first ran.
    private var positions: [String: Int] = [:]

    /// Recomputes what another execution runs.
    ///
    /// - Parameters:
    ///   - inner: runs the blocks.
    ///   - interval: the first of so many blocks is recomputed, the others keep their activations; at least 1.
    public init(_ inner: any BlockExecution = ResidentExecution(), every interval: Int = 1) {
        precondition(interval >= 1, "no block is the first of \(interval)")
        self.inner = inner
        self.interval = interval
    }

    /// Runs the body now and in backward; without recording, and for blocks that keep their activations, only now.
    public func run(
        _ unit: ModuleUnit, _ hiddenStates: Tensor,
        _ body: @escaping (Tensor) throws(TorchError) -> Tensor
    ) throws(TorchError) -> Tensor {
        let inner = inner
        let position = positions[unit.path] ?? positions.count
        positions[unit.path] = position
        guard Autograd.isEnabled, position.isMultiple(of: interval) else {
            return try inner.run(unit, hiddenStates, body)
        }
        return try Autograd.recomputed(
            input: hiddenStates, parameters: unit.trainableParameters.map(\.value)
        ) { input throws(TorchError) in
            try inner.run(unit, input, body)
        }
    }

    /// What the other execution does: nothing of it is recomputed.
    public func atEnd<Result>(
        _ end: ModelEnd, _ body: () throws(TorchError) -> Result
    ) throws(TorchError) -> Result {
        try inner.atEnd(end, body)
    }
}
