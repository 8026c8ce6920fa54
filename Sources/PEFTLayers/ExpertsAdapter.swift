public import Torch

// N tokens, E experts, O output features of an expert.

/// An adapter of a layer of several experts: one for each of them, in parameters that they share.
public protocol ExpertsAdapter: LinearAdapter {
    /// The adapter of each expert for one pass, in order.
    ///
    /// - Returns: adapters over the memory of ``LinearAdapter/parameters``, through which gradients reach those.
    /// - Throws: `TorchError` if memory does not suffice.
    func experts() throws(TorchError) -> [any LinearAdapter]
}

extension ExpertsAdapter {
    /// The output of all experts for every token, one beside the other.
    ///
    /// A model calls the experts one by one, each with its tokens; see ``Linear/experts(context:)``.
    public func apply(
        to input: Tensor, baseOutput: Tensor, weight: any LinearWeight, context: ForwardContext
    ) throws(TorchError) -> Tensor {
        let adapters = try experts()
        let width = weight.outFeatures / adapters.count
        let outputs = try adapters.enumerated().map { index, adapter throws(TorchError) in
            try adapter.apply(
                to: input, baseOutput: baseOutput.narrow(1, index * width, width),
                weight: weight.rows(index * width..<(index + 1) * width), context: context)
        }
        return try Tensor.concatenated(outputs, dim: 1)
    }
}

extension Linear {
    /// The layer of each expert for one pass, `x -> x W_e^T` with what the adapter makes of it.
    ///
    /// - Parameter context: says whether the adapter is in use.
    /// - Returns: layers over the same memory; one, self, if the layer is not of several experts.
    /// - Throws: `TorchError` if memory does not suffice.
    public func experts(context: ForwardContext) throws(TorchError) -> [Linear] {
        guard let count = parameter?.numExperts else { return [self] }
        let width = weight.outFeatures / count
        let shared = context.usesAdapters ? adapter as? any ExpertsAdapter : nil
        let adapters = try shared?.experts()
        return try (0..<count).map { index throws(TorchError) in
            let rows = try weight.rows(index * width..<(index + 1) * width)
            let layer = Linear(path: path, weight: rows)
            if let adapters { layer.attach(adapters[index]) }
            return layer
        }
    }
}
