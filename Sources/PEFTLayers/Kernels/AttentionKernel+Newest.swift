package import CKernels
package import Torch

// N tokens, H query heads, G key/value heads, D head dimension.

extension AttentionKernel {
    /// Computes the attention of one token, the newest, to all tokens of its sequence; records nothing for autograd.
    ///
    /// `output = softmax(scale * query K^T) V` for each head; query head h reads key/value head `h / (H / G)`. Keys and values are read
    /// where they lie, so that nothing of a cache is copied or repeated. Sums, softmax and its weights are float32. The same bits on
    /// any number of threads.
    ///
    /// - Parameters:
    ///   - query: `[1, H, D]`, bfloat16.
    ///   - key: `[N, G, D]`, bfloat16, H a multiple of G; any strides of tokens and heads.
    ///   - value: as `key`.
    ///   - scale: factor of the scores, positive.
    ///   - threads: where the kernel runs.
    /// - Returns: `[1, H, D]`, bfloat16.
    /// - Throws: `TorchError` if memory runs out.
    /// - Precondition: ``isUsable(for:scale:instructionSet:)``, and the shapes fit.
    /// - Memory: a float32 number for each channel of the query and 256 keys.
    package static func newest(
        query: Tensor, key: Tensor, value: Tensor, scale: Double,
        threads: CKernelsThreads = .libtorch
    ) throws(TorchError) -> Tensor {
        let (query, key, value) = (
            try query.contiguous(), try withAdjacentChannels(key), try withAdjacentChannels(value)
        )
        let output = try Tensor.empty(query.shape, dtype: .bfloat16)
        guard !DryRun.isOn else { return output }
        var newest = CKernelsNewest()
        (newest.num_keys, newest.num_key_value_heads) = (Int64(key.shape[0]), Int64(key.shape[1]))
        (newest.num_heads, newest.head_size) = (Int64(query.shape[1]), Int64(query.shape[2]))
        newest.scale = Float(scale)
        let bytes = ckernels_attention_newest_workspace_bytes(&newest)
        let workspace = try Tensor.empty([Int(bytes)], dtype: .uint8)
        Tensor.withAddresses(of: [query, key, value, output, workspace]) { addresses in
            newest.query = UnsafePointer(numbers(addresses[0]))
            newest.key = CKernelsHeads(addresses[1], strides: key.strides)
            newest.value = CKernelsHeads(addresses[2], strides: value.strides)
            newest.output = numbers(addresses[3])
            let status = ckernels_attention_newest(threads, &newest, addresses[4])
            precondition(status == 0, "the kernel refused its arguments")
        }
        return output
    }

    private static func withAdjacentChannels(_ states: Tensor) throws(TorchError) -> Tensor {
        states.strides[2] == 1 ? states : try states.contiguous()
    }
}

extension CKernelsHeads {
    /// A `[N, heads, D]` of any strides but the last.
    fileprivate init(_ address: UnsafeMutableRawPointer?, strides: [Int]) {
        self.init(
            data: UnsafePointer(numbers(address)), token_stride: Int64(strides[0]),
            head_stride: Int64(strides[1]))
    }
}
