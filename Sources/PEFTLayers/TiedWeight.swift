public import Torch

/// A head whose weight is the embedding's: the same tensor, counted once.
///
/// It has a name of its own all the same, since an adapter can train the head's weight apart from the embedding's, or both as one.
public final class TiedWeight: LinearWeight {
    private let shared: DenseWeight
    private let embeddingPath: String

    init(_ embedding: Parameter, as path: String) throws(TorchError) {
        embeddingPath = embedding.path
        shared = DenseWeight(
            try Parameter(path: path, value: embedding.original, isTrainable: false))
    }

    /// Rows of the weight: the vocabulary.
    public var outFeatures: Int { shared.outFeatures }
    /// Columns of the weight: the hidden size.
    public var inFeatures: Int { shared.inFeatures }
    /// The dtype's name and what it is tied to.
    public var storageDescription: String {
        "\(shared.storageDescription), tied to \(embeddingPath)"
    }
    /// Bytes of the shared elements.
    public var sizeBytes: Int { shared.sizeBytes }
    /// The shared elements.
    public var dense: Tensor? { shared.dense }
    /// The weight under the head's name.
    public var replaceable: Parameter? { shared.parameter }

    /// Where the embedding is.
    public var device: Device { shared.device }

    /// Self: a tied head is where its embedding is.
    public func moved(to device: Device) throws(TorchError) -> any LinearWeight { self }

    /// `y = x W^T`.
    public func apply(to input: Tensor, outputDType: DType) throws(TorchError) -> Tensor {
        try shared.apply(to: input, outputDType: outputDType)
    }

    /// A view of the shared elements.
    public func rows(_ range: Range<Int>) throws(TorchError) -> any LinearWeight {
        try shared.rows(range)
    }

    /// The weight as float32.
    public func dequantized() throws(TorchError) -> Tensor { try shared.dequantized() }

    /// The weight in the dtype of products.
    public func prepared(for dtype: DType) throws(TorchError) -> any LinearWeight {
        try shared.prepared(for: dtype)
    }

    /// The shared elements, as ``DenseWeight`` supplies them.
    public func panels() throws(TorchError) -> WeightPanels? { try shared.panels() }
}
