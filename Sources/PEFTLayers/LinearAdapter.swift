public import Torch

/// Answers: what is attached to this linear.
///
/// An adapter works on any storage: it sees the weight only as a ``LinearWeight``.
public protocol LinearAdapter: AdapterPart {
    /// The output of the adapted layer.
    ///
    /// - Parameters:
    ///   - input: `[tokens, inFeatures]`, the compute dtype.
    ///   - baseOutput: `W x + b`, `[tokens, outFeatures]`, in ``DType/forSums``, not rounded yet.
    ///   - weight: the layer's weight, for methods that depend on it.
    ///   - context: whether and how to drop out.
    /// - Returns: `[tokens, outFeatures]`, the compute dtype.
    /// - Throws: `TorchError` if the shapes do not fit.
    func apply(
        to input: Tensor, baseOutput: Tensor, weight: any LinearWeight, context: ForwardContext
    ) throws(TorchError) -> Tensor

    /// What the adapter adds in this pass, if that is a low-rank term and nothing else.
    ///
    /// Where there is one, the layer may compute it together with the base's product, and not call
    /// ``apply(to:baseOutput:weight:context:)``: both must compute the same but for rounding.
    ///
    /// - Parameters:
    ///   - input: `[tokens, inFeatures]`, for its shape.
    ///   - context: whether and how to drop out.
    /// - Returns: nil for a method without low-rank form.
    /// - Throws: `TorchError` if memory does not suffice.
    func lowRankTerm(
        for input: Tensor, context: ForwardContext
    ) throws(TorchError) -> LowRankTerm?

    /// The weight that computes without the adapter what the adapted layer computes without dropout.
    ///
    /// - Parameter weight: the base's, float32 `[outFeatures, inFeatures]`; it stays as it is.
    /// - Returns: float32 of the same shape, without history; nil for a method that is more than a change of the weight.
    /// - Throws: `TorchError` if memory does not suffice.
    /// - Memory: a new tensor of the weight's size.
    func merged(into weight: Tensor) throws(TorchError) -> Tensor?

    /// What is added to the layer's bias besides, so that the merged layer computes the same.
    ///
    /// - Returns: float32 `[outFeatures]`, without history; nil for nothing.
    /// - Throws: `TorchError` if memory does not suffice.
    func biasUpdate() throws(TorchError) -> Tensor?

    /// The tokens that activate the adapter; nil if it acts on all.
    var invocation: InvocationTokens? { get }
}

extension LinearAdapter {
    /// None: it acts on all tokens.
    public var invocation: InvocationTokens? { nil }

    /// None: the method cannot be merged.
    public func merged(into weight: Tensor) throws(TorchError) -> Tensor? { nil }

    /// Nothing.
    public func biasUpdate() throws(TorchError) -> Tensor? { nil }

    /// None.
    public func lowRankTerm(
        for input: Tensor, context: ForwardContext
    ) throws(TorchError) -> LowRankTerm? { nil }
}
