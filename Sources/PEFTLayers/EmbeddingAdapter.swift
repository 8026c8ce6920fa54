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

    /// The table whose rows are what the adapted table gives.
    ///
    /// - Parameter table: the base's, float32 `[vocabulary, hidden]`; it stays as it is.
    /// - Returns: float32 of the same shape, without history; nil for a method that is more than a change of the table.
    /// - Throws: `TorchError` if memory does not suffice.
    /// - Memory: a new tensor of the table's size.
    func merged(into table: Tensor) throws(TorchError) -> Tensor?
}

extension EmbeddingAdapter {
    /// None: the method cannot be merged.
    public func merged(into table: Tensor) throws(TorchError) -> Tensor? { nil }
}
