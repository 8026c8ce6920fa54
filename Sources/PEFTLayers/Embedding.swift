public import Torch

/// Rows of a table by token: `h = E[token]`.
public final class Embedding {
    /// The table, `[vocabulary, hidden]`.
    public let weight: Parameter

    /// Makes the table at `scope.weight`.
    ///
    /// - Throws: the source's error.
    public init(vocabularySize: Int, hiddenSize: Int, _ scope: Scope) throws {
        weight = try scope.parameter("weight", shape: [vocabularySize, hiddenSize])
    }

    /// Looks tokens up.
    ///
    /// - Parameter tokens: `[tokens]`, int32 or int64.
    /// - Returns: `[tokens, hidden]`, the table's dtype.
    /// - Throws: `TorchError` if a token is not in the table.
    public func callAsFunction(_ tokens: Tensor) throws(TorchError) -> Tensor {
        try weight.value.embedding(tokens)
    }
}
