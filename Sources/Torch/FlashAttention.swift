import CTorch

/// Exact attention without the score matrix, as libtorch's CPU flash kernel computes it.
///
/// `output = softmax(scale * Q K^T) V`, each head on its own; all heads present (no grouping). Computed in
/// ``DType/forProducts``, the results rounded to the operands' dtype.
public struct FlashAttention {
    /// `[batch, heads, queries, headDim]`.
    public let output: Tensor
    /// `log sum exp(scale * Q K^T)` for each query, which backward needs.
    public let logSumExp: Tensor

    /// Computes the output; records nothing for autograd.
    ///
    /// - Parameters:
    ///   - query: `[batch, heads, queries, headDim]`, float32, bfloat16 or float16.
    ///   - key: `[batch, heads, keys, headDim]`.
    ///   - value: as `key`.
    ///   - isCausal: query i sees keys 0...i.
    ///   - mask: added to the scores, `[queries, keys]`, float32, instead of `isCausal`; nil for none.
    ///   - scale: factor of the scores.
    /// - Throws: `TorchError` if shapes or dtypes do not fit.
    public init(
        query: Tensor, key: Tensor, value: Tensor, isCausal: Bool, mask: Tensor? = nil,
        scale: Double
    ) throws(TorchError) {
        var output: OpaquePointer?
        var logSumExp: OpaquePointer?
        let product = query.dtype.forProducts
        let (q, k, v) = (try query.to(product), try key.to(product), try value.to(product))
        let status = ctorch_nn_attention(
            q.handle, k.handle, v.handle, mask?.handle, isCausal, scale, &output, &logSumExp)
        withExtendedLifetime((q, k, v, mask)) {}
        try check("attention", [query, key, value], status)
        guard let output, let logSumExp else { throw TorchError.last("attention", []) }
        let exact = Tensor(owning: output)
        self.logSumExp = Tensor(owning: logSumExp)
        if let trace = Trace.current {
            trace.note("attention", [q, k, v], [exact, self.logSumExp])
        }
        self.output = try exact.to(query.dtype)
    }

    /// The gradients of query, key and value from the output's gradient.
    ///
    /// - Throws: `TorchError` if shapes or dtypes do not fit.
    public static func backward(
        gradient: Tensor, query: Tensor, key: Tensor, value: Tensor, output: Tensor,
        logSumExp: Tensor, isCausal: Bool, mask: Tensor? = nil, scale: Double
    ) throws(TorchError) -> (query: Tensor, key: Tensor, value: Tensor) {
        let (dtype, product) = (query.dtype, query.dtype.forProducts)
        let wide = try [gradient, query, key, value, output].map { operand throws(TorchError) in
            try operand.to(product)
        }
        let handles = wide.map(\.handle)
        var gradients: [OpaquePointer?] = [nil, nil, nil]
        let status = gradients.withUnsafeMutableBufferPointer { out in
            ctorch_nn_attention_backward(
                handles[0], handles[1], handles[2], handles[3], handles[4], logSumExp.handle,
                mask?.handle, isCausal, scale, &out[0], &out[1], &out[2])
        }
        withExtendedLifetime((wide, mask)) {}
        try check("attention backward", [gradient, query, key, value], status)
        guard let dq = gradients[0], let dk = gradients[1], let dv = gradients[2] else {
            throw TorchError.last("attention backward", [])
        }
        let exact = [dq, dk, dv].map(Tensor.init(owning:))
        if let trace = Trace.current { trace.note("attention backward", wide + [logSumExp], exact) }
        return (try exact[0].to(dtype), try exact[1].to(dtype), try exact[2].to(dtype))
    }
}
