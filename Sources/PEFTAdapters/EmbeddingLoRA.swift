public import PEFTLayers
public import Torch

/// A low-rank update of a table of tokens: `h = E[t] + s B A[:, t]`.
///
/// E `[vocabulary, hidden]` is frozen, A `[r, vocabulary]` and B `[hidden, r]` are trained in float32; the sum is rounded to the
/// table's dtype once. A starts as zero and B as standard normal numbers, so the model starts as its base. There is no dropout.
///
/// - Source: peft 0.21.2 `tuners/lora/layer.py:Embedding.forward`.
///
/// Differs from PEFT: the token that `pad_token_id` names learns as every other, since there is no padding here; libtorch's embedding,
/// which PEFT calls, leaves it out.
public final class EmbeddingLoRA: EmbeddingAdapter {
    /// The path of the table, with the values that hold for it.
    public let target: LoRATarget
    /// The matrix A, `[r, vocabulary]`, float32.
    public let loraA: Parameter
    /// The matrix B, `[hidden, r]`, float32.
    public let loraB: Parameter

    /// A and B.
    public var parameters: [Parameter] { [loraA, loraB] }

    /// Makes a LoRA for a table.
    ///
    /// - Parameters:
    ///   - target: the table's path, rank and scaling.
    ///   - vocabularySize: rows of the table.
    ///   - hiddenSize: columns of the table.
    ///   - isRandom: whether A starts as B does, so that the model does not start as its base.
    ///   - seed: with the path, decides the start.
    ///   - isTrainable: false freezes A and B.
    ///   - device: where A and B are.
    /// - Throws: `TorchError` if libtorch cannot allocate.
    public init(
        target: LoRATarget, vocabularySize: Int, hiddenSize: Int, isRandom: Bool = false,
        seed: UInt64, isTrainable: Bool = true, on device: Device = .cpu
    ) throws(TorchError) {
        self.target = target
        let generator = try Generator(seed: StableHash.of(seed, target.path))
        let valueB = try Tensor.normal(
            [hiddenSize, target.rank], standardDeviation: 1, generator: generator)
        let shapeA = [target.rank, vocabularySize]
        let valueA =
            isRandom
            ? try Tensor.normal(shapeA, standardDeviation: 1, generator: generator)
            : try Tensor.zeros(shapeA)
        let prefix = "base_model.model." + target.path
        loraA = try Parameter(
            path: prefix + ".lora_embedding_A", value: valueA.to(device), isTrainable: isTrainable)
        loraB = try Parameter(
            path: prefix + ".lora_embedding_B", value: valueB.to(device), isTrainable: isTrainable)
    }

    /// Adds the update to the table's rows.
    ///
    /// - Memory: autograd keeps the tokens and the `[tokens, r]` product; A's gradient is of A's size.
    public func apply(
        to tokens: Tensor, baseOutput: Tensor, table: Tensor
    ) throws(TorchError) -> Tensor {
        let sum = try baseOutput.to(.float32) + update(of: tokens)
        return try sum.to(baseOutput.dtype)
    }

    /// The update `s B A[:, t]`, float32 `[tokens, hidden]`; gradients reach A and B.
    ///
    /// `dB = s dh^T a`, `dA[:, t] += s B^T dh`, with `a = A[:, t]^T`.
    ///
    /// - Throws: `TorchError` if a token is not in the table.
    func update(of tokens: Tensor) throws(TorchError) -> Tensor {
        let (loraA, loraB) = (loraA.value, loraB.value)
        let scaling = target.scaling
        let outputs = try Autograd.node("embedding LoRA", inputs: [loraA, loraB]) {
            () throws(TorchError) -> (outputs: [Tensor], pullback: Pullback) in
            let (valueA, valueB) = (try loraA.detach(), try loraB.detach())
            let small = try valueA.indexSelected(1, tokens).transposed() * scaling  // [tokens, r]
            let pullback: Pullback = { gradients throws(TorchError) in
                guard let gradient = gradients[0] else { return [nil, nil] }
                let back = try gradient.matmul(valueB) * scaling  // [tokens, r]
                let zeros = try Tensor.zeros(valueA.shape, on: valueA.device)
                return [
                    try zeros.indexAdded(1, tokens, back.transposed()),
                    try gradient.transposed().matmul(small),
                ]
            }
            return ([try small.matmul(valueB.transposed())], pullback)
        }
        return outputs[0]
    }

    /// Whether every element of A or every one of B is zero.
    public func changesNothing() throws(TorchError) -> Bool {
        for parameter in parameters {
            let value = try parameter.value.detach()
            if try value.isEqual(to: Tensor.zeros(value.shape, on: value.device)) { return true }
        }
        return false
    }

    /// The update of the table, `s (B A)^T`: float32 `[vocabulary, hidden]`, without history.
    ///
    /// - Throws: `TorchError` if memory does not suffice.
    /// - Memory: a new tensor of the table's size in float32.
    public func delta() throws(TorchError) -> Tensor {
        let product = try loraA.value.detach().transposed()
            .matmul(loraB.value.detach().transposed())
        return try product * target.scaling
    }

    /// `E + s (B A)ᵀ`.
    public func merged(into table: Tensor) throws(TorchError) -> Tensor? {
        try table.detach() + delta()
    }
}

/// The same with a trained magnitude: `h = g (E[t] + s B A[:, t])`, `g = m / ‖E + s (B A)ᵀ‖`.
///
/// The norm is that of each of the table's columns over the whole vocabulary, m `[hidden]` is trained in float32 and starts as the norm;
/// gradients see the norm as a constant.
///
/// - Source: peft 0.21.2 `tuners/lora/dora.py:DoraEmbeddingLayer.forward`.
public final class EmbeddingDoRA: EmbeddingAdapter {
    /// The update of the direction.
    public let lora: EmbeddingLoRA
    /// The length of each column of the adapted table, `[hidden]`, float32.
    public let magnitude: Parameter
    /// `‖E‖²` of each column, float32.
    private let squaredNorms: Tensor

    /// A, B and the magnitude.
    public var parameters: [Parameter] { lora.parameters + [magnitude] }

    /// Makes a DoRA on a table that is in memory.
    ///
    /// - Throws: `TorchError` if memory does not suffice.
    /// - Memory: for a moment the table in float32, twice.
    public init(_ lora: EmbeddingLoRA, on table: Tensor) throws(TorchError) {
        self.lora = lora
        let wide = try table.detach().to(.float32)
        squaredNorms = try (wide * wide).sum([0])
        magnitude = try Parameter(
            path: "base_model.model.\(lora.target.path).lora_magnitude_vector",
            value: Self.norms(of: table, squared: squaredNorms, lora),
            isTrainable: lora.loraA.isTrainable)
    }

    /// The length of each column of `E + s (B A)ᵀ`, from the parts of its square.
    private static func norms(
        of table: Tensor, squared: Tensor, _ lora: EmbeddingLoRA
    ) throws(TorchError) -> Tensor {
        try withoutGrad { () throws(TorchError) in
            let (loraA, loraB) = (try lora.loraA.value.detach(), try lora.loraB.value.detach())
            let scaling = lora.target.scaling
            let wide = try table.detach().to(.float32)
            let cross = try loraA.matmul(wide).transposed() * (2 * scaling)  // [hidden, r]
            let gram = try loraA.matmul(loraA.transposed()) * (scaling * scaling)  // [r, r]
            let added = try ((cross + loraB.matmul(gram)) * loraB).sum([1])
            return try (squared + added).sqrt()
        }
    }

    /// Scales the columns of the adapted table.
    ///
    /// - Memory: autograd keeps the sum of rows and update, float32 `[tokens, hidden]`; for a moment the table in float32.
    public func apply(
        to tokens: Tensor, baseOutput: Tensor, table: Tensor
    ) throws(TorchError) -> Tensor {
        let norms = try Self.norms(of: table, squared: squaredNorms, lora)
        let gain = try magnitude.value / norms
        let sum = try baseOutput.to(.float32) + lora.update(of: tokens)
        return try (sum * gain).to(baseOutput.dtype)
    }

    /// `g (E + s (B A)ᵀ)`.
    ///
    /// - Memory: two new tensors of the table's size in float32.
    public func merged(into table: Tensor) throws(TorchError) -> Tensor? {
        let base = try table.detach()
        let norms = try Self.norms(of: base, squared: (base * base).sum([0]), lora)
        return try (base + lora.delta()) * (magnitude.value.detach() / norms)
    }

    /// Whether the update is zero and the magnitude is the table's own.
    public func changesNothing() throws(TorchError) -> Bool {
        guard try lora.changesNothing() else { return false }
        return try magnitude.value.detach().isEqual(to: squaredNorms.sqrt())
    }
}
