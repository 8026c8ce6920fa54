public import Torch

/// Answers: what is attached to this embedding.
public protocol EmbeddingAdapter: AdapterPart {
    /// The output of the adapted table.
    ///
    /// - Parameters:
    ///   - tokens: `[tokens]`, int32 or int64, on the table's device.
    ///   - baseOutput: the table's rows, `[tokens, hidden]`, the compute dtype.
    ///   - table: the table, `[vocabulary, hidden]`, for methods that depend on it.
    /// - Returns: `[tokens, hidden]`, the compute dtype.
    /// - Throws: `TorchError` if the shapes do not fit.
    func apply(
        to tokens: Tensor, baseOutput: Tensor, table: Tensor
    ) throws(TorchError) -> Tensor
}
