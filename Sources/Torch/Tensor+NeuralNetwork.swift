import CTorch

extension Tensor {
    /// The matrix product over the last two dimensions, computed in ``productDType``.
    public func matmul(_ other: Tensor) throws(TorchError) -> Tensor {
        let product = productDType
        guard product == dtype || other.dtype != dtype else {
            let wide = try to(product).matmul(other.to(product))
            return try wide.to(dtype)
        }
        return try .make("matmul", [self, other]) {
            ctorch_linalg_matmul(handle, other.handle, $0)
        }
    }

    /// `y = x W^T + b`, computed in ``productDType``.
    ///
    /// - Parameters:
    ///   - weight: `[outFeatures, inFeatures]`, self's dtype.
    ///   - bias: `[outFeatures]`, or none.
    /// - Returns: `[..., outFeatures]`.
    /// - Throws: `TorchError` if shapes or dtypes do not fit.
    public func linear(_ weight: Tensor, bias: Tensor? = nil) throws(TorchError) -> Tensor {
        let product = productDType
        guard product == dtype || weight.dtype != dtype else {
            let wide = try to(product).linear(weight.to(product), bias: bias?.to(product))
            return try wide.to(dtype)
        }
        return try .make("linear", [self, weight, bias]) {
            ctorch_linalg_linear(handle, weight.handle, bias?.handle, $0)
        }
    }

    /// `softmax(scale Q K^T) V`, each head on its own, by whichever kernel libtorch has for the device; differentiable.
    ///
    /// For devices; in host memory see ``FlashAttention``.
    ///
    /// - Parameters:
    ///   - key: `[batch, heads, keys, headDim]`.
    ///   - value: as `key`.
    ///   - isCausal: query i sees keys 0...i.
    ///   - mask: added to the scores, `[queries, keys]`, self's dtype, instead of `isCausal`; nil for none.
    ///   - scale: factor of the scores.
    /// - Returns: `[batch, heads, queries, headDim]`, as self, the query.
    /// - Throws: `TorchError` if shapes or dtypes do not fit.
    package func attention(
        key: Tensor, value: Tensor, isCausal: Bool, mask: Tensor? = nil, scale: Double
    ) throws(TorchError) -> Tensor {
        try .make("attention", [self, key, value]) {
            ctorch_nn_device_attention(
                handle, key.handle, value.handle, mask?.handle, isCausal, scale, $0)
        }
    }

    /// Rows of self, `[vocabulary, hidden]`, by int32 or int64 index.
    public func embedding(_ indices: Tensor) throws(TorchError) -> Tensor {
        try .make("embedding", [self, indices]) {
            ctorch_nn_embedding(handle, indices.handle, $0)
        }
    }

    /// `exp(x) / sum(exp(x))` along a dimension.
    public func softmax(_ dim: Int = -1) throws(TorchError) -> Tensor {
        try .make("softmax", [self]) { ctorch_nn_softmax(handle, Int64(dim), $0) }
    }

    /// `log(softmax(x))` along a dimension.
    public func logSoftmax(_ dim: Int = -1) throws(TorchError) -> Tensor {
        try .make("log_softmax", [self]) { ctorch_nn_log_softmax(handle, Int64(dim), $0) }
    }

    /// `w (x - mean(x)) / sqrt(var(x) + epsilon) + b` over the last dimension.
    ///
    /// - Parameters:
    ///   - weight: `[channels]`, self's dtype.
    ///   - bias: as `weight`.
    ///   - epsilon: added to the variance.
    /// - Returns: self's shape and dtype.
    /// - Throws: `TorchError` if shapes or dtypes do not fit.
    public func layerNorm(
        weight: Tensor, bias: Tensor, epsilon: Double
    ) throws(TorchError) -> Tensor {
        try .make("layer_norm", [self, weight, bias]) {
            ctorch_nn_layer_norm(handle, weight.handle, bias.handle, epsilon, $0)
        }
    }

    /// `-log softmax(self)[target]` for each row of `[rows, classes]`.
    ///
    /// - Parameter targets: class indices, `[rows]`, int64.
    /// - Returns: one value a row, `[rows]`.
    /// - Throws: `TorchError` if a target is out of range.
    public func crossEntropy(_ targets: Tensor) throws(TorchError) -> Tensor {
        try .make("cross_entropy", [self, targets]) {
            ctorch_nn_cross_entropy(handle, targets.handle, false, $0)
        }
    }

    /// The sum over rows of ``crossEntropy(_:)``, a scalar.
    public func crossEntropySum(_ targets: Tensor) throws(TorchError) -> Tensor {
        try .make("cross_entropy", [self, targets]) {
            ctorch_nn_cross_entropy(handle, targets.handle, true, $0)
        }
    }
}
