public import Torch

/// Rows of a table by token: `h = E[token]`.
public final class Embedding {
    /// The table, `[vocabulary, hidden]`.
    public let weight: Parameter
    /// The Hugging Face path of the layer: `model.embed_tokens`.
    public let path: String
    /// Whether each output is made to require grad, though nothing before it is trained.
    ///
    /// What transformers' `enable_input_require_grads` does by a hook. The built-in path does not need it: recomputation takes the
    /// trainable tensors as inputs of its node. It is for code that differentiates only through its input, as reentrant
    /// checkpointing does.
    public var outputRequiresGrad = false
    /// The adapter, if one is attached.
    public private(set) var adapter: (any EmbeddingAdapter)?

    /// Makes the table at `scope.weight` and registers the layer.
    ///
    /// - Throws: the source's error.
    public init(vocabularySize: Int, hiddenSize: Int, _ scope: Scope) throws {
        weight = try scope.parameter("weight", shape: [vocabularySize, hiddenSize])
        path = scope.path
        scope.registry.add(self)
    }

    /// Looks tokens up.
    ///
    /// - Parameters:
    ///   - tokens: `[tokens]`, int32 or int64, on any device.
    ///   - usesAdapter: whether the adapter takes part.
    /// - Returns: `[tokens, hidden]`, the base table's dtype.
    /// - Throws: `TorchError` if a token is not in the table.
    public func callAsFunction(
        _ tokens: Tensor, usesAdapter: Bool = true
    ) throws(TorchError) -> Tensor {
        try Trace.layer(path) { () throws(TorchError) in
            let table = weight.value
            let tokens = try tokens.to(table.device)
            // A dry run knows the gradient of a selection, not of `embedding`.
            let rows =
                try table.requiresGrad
                ? table.indexSelected(0, tokens) : table.embedding(tokens)
            // Rows of a table that is trained in float32 are rounded, not the table.
            var output = try rows.to(weight.original.dtype)
            if let adapter, usesAdapter {
                output = try adapter.apply(to: tokens, baseOutput: output, table: table)
            }
            if outputRequiresGrad, !output.requiresGrad {
                try output.setRequiresGrad(true)
            }
            return output
        }
    }

    /// Attaches an adapter.
    ///
    /// - Precondition: none is attached yet.
    public func attach(_ adapter: any EmbeddingAdapter) {
        precondition(self.adapter == nil, "\(path) already has an adapter")
        self.adapter = adapter
    }

    /// Takes the adapter off: the table is its base again.
    ///
    /// - Returns: the adapter, if there was one.
    @discardableResult
    public func detachAdapter() -> (any EmbeddingAdapter)? {
        defer { adapter = nil }
        return adapter
    }

    /// The tensors of the adapter that the optimizer updates.
    public var trainableParameters: [Parameter] {
        (adapter?.parameters ?? []).filter(\.isTrainable)
    }
}
