public import Torch

/// A head whose weight is the embedding's: the same tensor, counted once.
public final class TiedWeight: LinearWeight {
    private let dense: DenseWeight

    init(_ embedding: Parameter) { dense = DenseWeight(embedding) }

    /// Rows of the weight: the vocabulary.
    public var outFeatures: Int { dense.outFeatures }
    /// Columns of the weight: the hidden size.
    public var inFeatures: Int { dense.inFeatures }
    /// The dtype's name and what it is tied to.
    public var storageDescription: String {
        "\(dense.storageDescription), tied to \(dense.parameter.path)"
    }
    /// Bytes of the shared elements.
    public var sizeBytes: Int { dense.sizeBytes }

    /// `y = x W^T`.
    public func apply(to input: Tensor) throws(TorchError) -> Tensor {
        try dense.apply(to: input)
    }

    /// The weight as float32.
    public func dequantized() throws(TorchError) -> Tensor { try dense.dequantized() }

    /// The weight in the dtype of products.
    public func prepared(for dtype: DType) throws(TorchError) -> any LinearWeight {
        try dense.prepared(for: dtype)
    }

    /// The shared elements, as ``DenseWeight`` supplies them.
    public func panels() throws(TorchError) -> WeightPanels? { try dense.panels() }
}
