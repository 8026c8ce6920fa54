public import Torch

/// `y = x W^T + b`, then what the adapter makes of it.
public final class Linear {
    /// The Hugging Face path of the layer: `model.layers.0.self_attn.q_proj`.
    public let path: String
    /// The weight in its storage.
    public let weight: any LinearWeight
    /// The bias, `[outFeatures]`, if the layer has one.
    public let bias: Parameter?
    /// What adapters know the layer by, if Hugging Face's model has no module for it; nil for a module at ``path``.
    public let parameter: TargetParameter?
    /// The adapter, if one is attached.
    public private(set) var adapter: (any LinearAdapter)?

    /// Makes a layer without adapter.
    public init(
        path: String, weight: any LinearWeight, bias: Parameter? = nil,
        parameter: TargetParameter? = nil
    ) {
        self.path = path
        self.weight = weight
        self.bias = bias
        self.parameter = parameter
    }

    /// Applies the layer; its input is kept for backward if an adapter needs it.
    ///
    /// - Parameters:
    ///   - input: `[tokens, inFeatures]`, the compute dtype.
    ///   - context: passed to the adapter.
    /// - Returns: `[tokens, outFeatures]`, the compute dtype.
    /// - Throws: `TorchError` if the shapes do not fit.
    public func callAsFunction(
        _ input: Tensor, context: ForwardContext
    ) throws(TorchError) -> Tensor {
        try self(Recomputable(kept: input), context: context)
    }

    /// Applies the layer to an input that the layer's kernel computes again in backward instead of keeping it.
    ///
    /// - Parameters:
    ///   - input: `[tokens, inFeatures]`, the compute dtype.
    ///   - context: passed to the adapter.
    /// - Returns: `[tokens, outFeatures]`, the compute dtype.
    /// - Throws: `TorchError` if the shapes do not fit.
    public func callAsFunction(
        _ input: Recomputable, context: ForwardContext
    ) throws(TorchError) -> Tensor {
        try Trace.layer(path) { () throws(TorchError) in
            if let output = try fused(input, context) {
                return output
            }
            return try unfused(input.value, context)
        }
    }

    /// The output from libtorch's operations.
    ///
    /// Product, bias and the adapter's update are added before they are rounded, once: what a young adapter adds is smaller than
    /// the last bit of a rounded base (docs/decisions/0014).
    private func unfused(
        _ input: Tensor, _ context: ForwardContext
    ) throws(TorchError) -> Tensor {
        let adapter = context.usesAdapters ? adapter : nil
        let isLast = bias == nil && adapter == nil
        let dtype = isLast ? input.dtype : input.dtype.forSums
        var output = try weight.apply(to: input, outputDType: dtype)
        if let bias {
            output = try output + bias.value.to(dtype)
        }
        guard let adapter else { return try output.to(input.dtype) }
        return try adapter.apply(to: input, baseOutput: output, weight: weight, context: context)
    }

    /// The output from one kernel, where weight, bias and adapter have the forms that it takes.
    private func fused(
        _ recomputable: Recomputable, _ context: ForwardContext
    ) throws(TorchError) -> Tensor? {
        let input = recomputable.value
        guard input.device.isHost, try LinearKernel.isPossible(for: weight, input.dtype) else {
            return nil
        }
        var term: LowRankTerm?
        if let adapter, context.usesAdapters {
            term = try adapter.lowRankTerm(for: input, context: context)
            guard term != nil else { return nil }
        }
        let kernel = try LinearKernel(for: input, weight: weight, bias: bias?.value, term: term)
        if context.cache != nil, input.shape[0] <= LinearKernel.mostFewTokens {
            // Without products of few tokens libtorch's are faster than packing the weight's panels.
            return try kernel?.outputOfFew(input)
        }
        return try kernel?(recomputable, in: context)
    }

    /// The weight's elements, `[outFeatures, inFeatures]`, if the layer computes `x W^T` and nothing else, with a weight that gets no
    /// gradient; else nil.
    ///
    /// A kernel may then compute the product together with what follows.
    ///
    /// - Parameter context: says whether an adapter is in use.
    /// - Returns: the very elements, in their dtype.
    package func frozenProductWeight(in context: ForwardContext) -> Tensor? {
        let isAdapted = adapter != nil && context.usesAdapters
        guard bias == nil, !isAdapted, let elements = weight.dense, !elements.requiresGrad else {
            return nil
        }
        return elements
    }

    /// The same layer, adapter included, with its weight made ready for many products in a row.
    ///
    /// - Throws: `TorchError` if memory does not suffice.
    /// - Memory: see ``LinearWeight/prepared(for:)``.
    public func prepared(for dtype: DType) throws(TorchError) -> Linear {
        let layer = Linear(
            path: path, weight: try weight.prepared(for: dtype), bias: bias, parameter: parameter)
        layer.adapter = adapter
        return layer
    }

    /// Attaches an adapter.
    ///
    /// - Precondition: none is attached yet; a layer of several experts gets an ``ExpertsAdapter``.
    public func attach(_ adapter: any LinearAdapter) {
        precondition(self.adapter == nil, "\(path) already has an adapter")
        precondition(
            parameter?.numExperts == nil || adapter is any ExpertsAdapter,
            "\(path) is of several experts, and the adapter of one layer")
        self.adapter = adapter
    }

    /// Takes the adapter off: the layer computes as its base again.
    ///
    /// - Returns: the adapter, if there was one.
    @discardableResult
    public func detachAdapter() -> (any LinearAdapter)? {
        defer { adapter = nil }
        return adapter
    }

    /// The tensors of the layer's weight and its adapter that the optimizer updates.
    public var trainableParameters: [Parameter] {
        (weight.replaceable?.replacement?.trained ?? [])
            + (adapter?.parameters ?? []).filter(\.isTrainable)
    }
}
