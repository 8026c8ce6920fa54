public import PEFTLayers
public import Torch

/// A decoder-only language model: tokens to hidden states to logits.
public protocol CausalLanguageModel: AnyObject {
    /// The number of tokens that the head tells apart.
    var vocabularySize: Int { get }
    /// The longest sequence that the positions were trained for.
    var maxPositionEmbeddings: Int { get }
    /// The layer that tokens enter by.
    var inputEmbedding: Embedding { get }
    /// The decoder blocks, the units of recomputation and sharding.
    var units: [ModuleUnit] { get }
    /// The output head.
    var head: Linear { get }
    /// What becomes of the head's output; nil for nothing.
    var logitTransform: LogitTransform? { get }

    /// Whether keys that were cached at one length of the sequence serve at another.
    ///
    /// - Parameters:
    ///   - numTokens: tokens in the cache.
    ///   - length: tokens with those to come.
    /// - Returns: false where positions are encoded by the sequence's length, and these two lengths differ in that.
    func canExtendCache(from numTokens: Int, to length: Int) -> Bool

    /// Runs embedding, blocks and final norm.
    ///
    /// - Parameters:
    ///   - tokens: `[tokens]`, int64, all segments of the layout one after another.
    ///   - context: segments, dropout, cache.
    ///   - execution: how each block is run.
    /// - Returns: `[tokens, hidden]`, the compute dtype.
    /// - Throws: `TorchError` if a token is out of range or memory does not suffice.
    func hiddenStates(
        _ tokens: Tensor, context: ForwardContext, execution: any BlockExecution
    ) throws(TorchError) -> Tensor
}

extension CausalLanguageModel {
    /// Nothing.
    public var logitTransform: LogitTransform? { nil }

    /// They do.
    public func canExtendCache(from numTokens: Int, to length: Int) -> Bool { true }

    /// Makes the output of the input embedding require grad in every forward pass.
    ///
    /// For code of one's own that differentiates only through its input (reentrant checkpointing). The built-in execution
    /// does not need it and is not changed by it but for the cost of one more gradient. Calling it twice is calling it once.
    ///
    /// - Source: transformers 5.23 `modeling_utils.py:enable_input_require_grads`.
    public func enableInputRequireGrads() { inputEmbedding.outputRequiresGrad = true }

    /// Takes ``enableInputRequireGrads()`` back.
    ///
    /// - Source: transformers 5.23 `modeling_utils.py:disable_input_require_grads`.
    public func disableInputRequireGrads() { inputEmbedding.outputRequiresGrad = false }

    /// The logits of hidden states, `[n, hidden] -> [n, vocabulary]`, the input's dtype.
    ///
    /// - Parameters:
    ///   - hiddenStates: after the final norm.
    ///   - context: passed to an adapter on the head.
    ///   - preparedHead: the head made ready for many calls, or nil.
    /// - Returns: one row a token.
    /// - Throws: `TorchError` if memory does not suffice.
    public func logits(
        _ hiddenStates: Tensor, context: ForwardContext, preparedHead: Linear? = nil
    ) throws(TorchError) -> Tensor {
        let head = preparedHead ?? head
        let logits = try Parameter.withOriginals(!context.usesAdapters) { () throws(TorchError) in
            try head(hiddenStates, context: context)
        }
        return try logitTransform?(logits) ?? logits
    }

    /// The loss of a batch at the positions that have a target.
    ///
    /// - Parameters:
    ///   - tokens: `[tokens]`.
    ///   - targets: the token to predict at each position, negative for none.
    ///   - context: segments and dropout; common beginnings of rows are computed once if it says so.
    ///   - execution: how each block is run.
    /// - Returns: the differentiable sum and the parts.
    /// - Throws: `TorchError` if a token is out of range or memory does not suffice.
    public func losses(
        tokens: [Int32], targets: [Int32], context: ForwardContext, execution: any BlockExecution
    ) throws(TorchError) -> TokenLosses {
        let hidden = try hiddenStates(tokens, context: context, execution: execution)
        return try execution.atEnd(.output) { () throws(TorchError) in
            try losses(of: hidden, targets: targets, context: context)
        }
    }

    /// The states of all tokens, of common beginnings of rows computed once if the context allows that.
    private func hiddenStates(
        _ tokens: [Int32], context: ForwardContext, execution: any BlockExecution
    ) throws(TorchError) -> Tensor {
        let sharing =
            context.sharesPrefixes
            ? SharedPrefixes(
                tokens: tokens, rowLengths: context.layout.segmentLengths, areAlike: canExtendCache)
            : nil
        let computed = sharing?.kept(of: tokens) ?? tokens
        let hidden = try hiddenStates(
            Tensor(computed, shape: [computed.count]).to(.int64),
            context: sharing.map { context.over($0.layout) } ?? context.reading(tokens),
            execution: execution)
        return try sharing?.inRows(hidden) ?? hidden
    }

    private func losses(
        of hidden: Tensor, targets: [Int32], context: ForwardContext
    ) throws(TorchError) -> TokenLosses {
        try Parameter.withOriginals(!context.usesAdapters) { () throws(TorchError) in
            // Made for the first slice of logits: a kernel that makes none needs no other head.
            var preparedHead: Linear?
            return try Trace.layer(head.path) { () throws(TorchError) in
                try CrossEntropy.losses(
                    hiddenStates: hidden, targets: targets,
                    parameters: head.trainableParameters.map(\.value),
                    weight: logitTransform == nil
                        ? head.frozenProductWeight(in: context) : nil,
                    labelSmoothing: context.regularization.labelSmoothing
                ) { slice throws(TorchError) in
                    if preparedHead == nil { preparedHead = try head.prepared(for: hidden.dtype) }
                    return try logits(slice, context: context, preparedHead: preparedHead)
                }
            }
        }
    }
}
