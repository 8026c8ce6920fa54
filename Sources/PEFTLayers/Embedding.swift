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

    /// Makes the table at `scope.weight`.
    ///
    /// - Throws: the source's error.
    public init(vocabularySize: Int, hiddenSize: Int, _ scope: Scope) throws {
        weight = try scope.parameter("weight", shape: [vocabularySize, hiddenSize])
        path = scope.path
    }

    /// Looks tokens up.
    ///
    /// - Parameter tokens: `[tokens]`, int32 or int64, on any device.
    /// - Returns: `[tokens, hidden]`, the table's dtype.
    /// - Throws: `TorchError` if a token is not in the table.
    public func callAsFunction(_ tokens: Tensor) throws(TorchError) -> Tensor {
        try Trace.layer(path) { () throws(TorchError) in
            let output = try weight.value.embedding(tokens.to(weight.value.device))
            if outputRequiresGrad, !output.requiresGrad {
                try output.setRequiresGrad(true)
            }
            return output
        }
    }
}
