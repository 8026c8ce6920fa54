import CTorch

extension Tensor {
    /// The matrix product over the last two dimensions.
    public func matmul(_ other: Tensor) throws(TorchError) -> Tensor {
        try .make("matmul", [self, other]) { ctorch_linalg_matmul(handle, other.handle, $0) }
    }

    /// `y = x W^T + b`.
    ///
    /// - Parameters:
    ///   - weight: `[outFeatures, inFeatures]`, self's dtype.
    ///   - bias: `[outFeatures]`, or none.
    /// - Returns: `[..., outFeatures]`.
    /// - Throws: `TorchError` if shapes or dtypes do not fit.
    public func linear(_ weight: Tensor, bias: Tensor? = nil) throws(TorchError) -> Tensor {
        try .make("linear", [self, weight, bias]) {
            ctorch_linalg_linear(handle, weight.handle, bias?.handle, $0)
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

/// Exact attention without the score matrix, as libtorch's CPU flash kernel computes it.
///
/// `output = softmax(scale * Q K^T) V`, each head on its own; all heads present (no grouping).
public struct FlashAttention {
    /// `[batch, heads, queries, headDim]`.
    public let output: Tensor
    /// `log sum exp(scale * Q K^T)` for each query, which backward needs.
    public let logSumExp: Tensor

    /// Computes the output; records nothing for autograd.
    ///
    /// - Parameters:
    ///   - query: `[batch, heads, queries, headDim]`, float32 or bfloat16.
    ///   - key: `[batch, heads, keys, headDim]`.
    ///   - value: as `key`.
    ///   - isCausal: query i sees keys 0...i.
    ///   - scale: factor of the scores.
    /// - Throws: `TorchError` if shapes or dtypes do not fit.
    public init(
        query: Tensor, key: Tensor, value: Tensor, isCausal: Bool, scale: Double
    ) throws(TorchError) {
        var output: OpaquePointer?
        var logSumExp: OpaquePointer?
        let status = ctorch_nn_attention(
            query.handle, key.handle, value.handle, isCausal, scale, &output, &logSumExp)
        try check("attention", [query, key, value], status)
        guard let output, let logSumExp else { throw TorchError.last("attention", []) }
        self.output = Tensor(owning: output)
        self.logSumExp = Tensor(owning: logSumExp)
    }

    /// The gradients of query, key and value from the output's gradient.
    ///
    /// - Throws: `TorchError` if shapes or dtypes do not fit.
    public static func backward(
        gradient: Tensor, query: Tensor, key: Tensor, value: Tensor, output: Tensor,
        logSumExp: Tensor, isCausal: Bool, scale: Double
    ) throws(TorchError) -> (query: Tensor, key: Tensor, value: Tensor) {
        var gradients: [OpaquePointer?] = [nil, nil, nil]
        let status = gradients.withUnsafeMutableBufferPointer { out in
            ctorch_nn_attention_backward(
                gradient.handle, query.handle, key.handle, value.handle, output.handle,
                logSumExp.handle, isCausal, scale, &out[0], &out[1], &out[2])
        }
        try check("attention backward", [gradient, query, key, value], status)
        guard let dq = gradients[0], let dk = gradients[1], let dv = gradients[2] else {
            throw TorchError.last("attention backward", [])
        }
        return (Tensor(owning: dq), Tensor(owning: dk), Tensor(owning: dv))
    }
}
