public import PEFTLayers
public import Torch

/// Some rows of a table of tokens, trained in the place of the base's own: `h = D[i]` for the i-th trained token, else `E[t]`.
///
/// D `[trained tokens, hidden]` is trained in float32 and starts as the rows of the base. A head that is tied to the table computes with
/// the same rows, see ``TrainableTokensHead``.
///
/// - Source: peft 0.21.2 `tuners/trainable_tokens/layer.py:TrainableTokensLayer`.
///
/// Differs from PEFT: a trained row of `pad_token_id` learns too, see ``EmbeddingLoRA``.
public final class TrainableTokens: EmbeddingAdapter {
    /// The trained rows.
    public let rows: TrainedRows

    /// The trained rows.
    public var parameters: [Parameter] { [rows.delta] }

    /// Trains rows of a table.
    public init(_ rows: TrainedRows) { self.rows = rows }

    /// Puts the trained rows in the place of the table's.
    public func apply(
        to tokens: Tensor, baseOutput: Tensor, table: Tensor
    ) throws(TorchError) -> Tensor {
        let rounded = try rows.delta.value.to(baseOutput.dtype)
        let trained = try rows.withZeros(rounded, dim: 0).indexSelected(
            0, rows.slots.indexSelected(0, tokens))
        let kept = try rows.kept(baseOutput.dtype).indexSelected(0, tokens).unsqueezed(1)
        return try baseOutput * kept + trained
    }

    /// The table with the trained rows in the place of its own.
    public func merged(into table: Tensor) throws(TorchError) -> Tensor? {
        try rows.replaced(in: table)
    }

    /// Whether the rows are the base's.
    public func changesNothing() throws(TorchError) -> Bool { try rows.areOriginal() }
}

/// The same rows in an output head: the logits of trained tokens are `x D^T`.
public final class TrainableTokensHead: LinearAdapter {
    /// The trained rows.
    public let rows: TrainedRows

    /// The trained rows.
    public var parameters: [Parameter] { [rows.delta] }

    /// Trains rows of a head's weight.
    public init(_ rows: TrainedRows) { self.rows = rows }

    /// Puts the logits of trained rows in the place of the base's.
    ///
    /// - Memory: two more tensors of the logits' size for a moment.
    public func apply(
        to input: Tensor, baseOutput: Tensor, weight: any LinearWeight, context: ForwardContext
    ) throws(TorchError) -> Tensor {
        let dtype = baseOutput.dtype
        let wide = try input.to(dtype)
        // The very numbers that the embedding's rows are rounded to, as in a weight that both share.
        let rounded = try rows.delta.value.to(rows.dtype).to(dtype)
        let logits = try rows.withZeros(wide.linear(rounded), dim: 1)
        let trained = try logits.indexSelected(1, rows.slots)
        return try (baseOutput * rows.kept(dtype) + trained).to(input.dtype)
    }

    /// The weight with the trained rows in the place of its own.
    public func merged(into weight: Tensor) throws(TorchError) -> Tensor? {
        try rows.replaced(in: weight)
    }

    /// Whether the rows are the base's.
    public func changesNothing() throws(TorchError) -> Bool { try rows.areOriginal() }
}

/// Rows of a table that are trained, for one or more layers that share them.
public final class TrainedRows {
    /// The rows, `[trained tokens, hidden]`, float32.
    public let delta: Parameter
    /// The tokens, in the rows' order.
    public let tokens: [Int]
    /// The dtype of the base's rows.
    let dtype: DType
    /// For each token of the vocabulary its row, or the number of rows: int64 `[vocabulary]`.
    let slots: Tensor
    private let original: Tensor
    private let untrained: Tensor

    /// Copies rows of a table that is in memory.
    ///
    /// - Parameters:
    ///   - tokens: which, each once, all in the vocabulary.
    ///   - table: `[vocabulary, hidden]`.
    ///   - path: of the layer.
    ///   - isTrainable: false freezes them, for inference.
    /// - Throws: `TorchError` if memory does not suffice.
    init(
        _ tokens: [Int], of table: Tensor, path: String, isTrainable: Bool
    ) throws(TorchError) {
        self.tokens = tokens
        dtype = table.dtype
        let device = table.device
        let indices = try Tensor(tokens.map { Int64($0) }, shape: [tokens.count]).to(device)
        original = try table.detach().indexSelected(0, indices).to(.float32)
        delta = try Parameter(
            path: "base_model.model.\(path).token_adapter.trainable_tokens_delta",
            value: original.clone(), isTrainable: isTrainable)
        var slots = [Int64](repeating: Int64(tokens.count), count: table.shape[0])
        for (slot, token) in tokens.enumerated() { slots[token] = Int64(slot) }
        self.slots = try Tensor(slots, shape: [slots.count]).to(device)
        let marks = try Tensor.concatenated([
            Tensor.zeros([tokens.count], on: device), Tensor.ones([1], on: device),
        ])
        untrained = try marks.indexSelected(0, self.slots)
    }

    /// One for tokens whose rows are the base's, zero for trained ones: `[vocabulary]`.
    func kept(_ dtype: DType) throws(TorchError) -> Tensor { try untrained.to(dtype) }

    /// The rows or columns of trained tokens, and one of zeros for all others.
    func withZeros(_ trained: Tensor, dim: Int) throws(TorchError) -> Tensor {
        var shape = trained.shape
        shape[dim] = 1
        let zeros = try Tensor.zeros(shape, dtype: trained.dtype, on: trained.device)
        return try Tensor.concatenated([trained, zeros], dim: dim)
    }

    /// A copy of a table with these rows in the place of its own.
    func replaced(in table: Tensor) throws(TorchError) -> Tensor {
        let merged = try table.detach().clone()
        for (slot, token) in tokens.enumerated() {
            try merged.narrow(0, token, 1).copyInPlace(
                from: delta.value.detach().narrow(0, slot, 1))
        }
        return merged
    }

    /// Whether the rows are as they started, the base's.
    func areOriginal() throws(TorchError) -> Bool {
        try delta.value.detach().isEqual(to: original)
    }
}
