package import CKernels
package import Torch

// N tokens of all segments, H query heads, G key/value heads, D head dimension.

/// Causal grouped-query attention of a whole flattened batch in one call, in products of bfloat16 numbers.
///
/// `output = softmax(scale * Q K^T) V` for each head; query head h reads key/value head `h / (H / G)`, a token sees itself and what
/// is before it in its own segment. Sums, softmax and its logarithm are float32. The same bits on any number of threads,
/// whatever other segments are in the batch.
///
/// Does not repeat keys for the heads that share them, does not cut the batch into runs of one length, and needs a processor with
/// bfloat16 products (AVX512-BF16); ``Attention`` has another way for the others.
package struct AttentionKernel {
    private let segmentLengths: [Int64]
    private let scale: Float
    private let window: Int
    private let threads: CKernelsThreads

    /// Describes the attention of a batch.
    ///
    /// - Parameters:
    ///   - layout: the segments.
    ///   - scale: factor of the scores, positive.
    ///   - window: how many keys a token sees at most, itself among them, at least 1; nil: all before it.
    ///   - threads: where the kernel runs.
    package init(
        layout: SequenceLayout, scale: Double, window: Int? = nil,
        threads: CKernelsThreads = .libtorch
    ) {
        precondition(scale > 0 && window ?? 1 > 0, "a positive scale and window")
        segmentLengths = layout.segmentLengths.map(Int64.init)
        self.scale = Float(scale)
        self.window = window ?? 0
        self.threads = threads
    }

    /// Whether the kernel computes these: bfloat16 in host memory, a head dimension up to 256, a positive scale, on an instruction set
    /// with products.
    ///
    /// - Parameters:
    ///   - operands: query, key and value, `[N, heads, D]`.
    ///   - scale: factor of the scores.
    ///   - instructionSet: what may be used, of this machine.
    /// - Returns: whether ``forward(query:key:value:)`` may be called.
    package static func isUsable(
        for operands: [Tensor], scale: Double, instructionSet: InstructionSet = .best
    ) -> Bool {
        instructionSet == .avx512bf16 && scale > 0
            && operands.allSatisfy {
                $0.device.isHost && $0.dtype == .bfloat16 && $0.numElements > 0
            }
            && operands.allSatisfy { ckernels_attention_is_supported(Int64($0.shape[2])) == 1 }
    }

    /// Computes the output; records nothing for autograd.
    ///
    /// - Parameters:
    ///   - query: `[N, H, D]`, bfloat16; N the layout's.
    ///   - key: `[N, G, D]`, bfloat16, H a multiple of G.
    ///   - value: as `key`.
    /// - Returns: the output, `[N, H, D]`, bfloat16, and `log sum exp(scale * Q K^T)`, `[H, N]`, float32, which backward needs.
    /// - Throws: `TorchError` if memory runs out.
    /// - Precondition: ``isUsable(for:scale:instructionSet:)``, and the shapes fit.
    /// - Memory: during the call about as much as key and value, which are packed.
    package func forward(
        query: Tensor, key: Tensor, value: Tensor
    ) throws(TorchError) -> (output: Tensor, logSumExp: Tensor) {
        let shape = query.shape
        let operands = [try query.contiguous(), try key.contiguous(), try value.contiguous()]
        let output = try Tensor.empty(shape, dtype: .bfloat16)
        let logSumExp = try Tensor.empty([shape[1], shape[0]])
        let bytes = described(query, key) {
            ckernels_attention_forward_workspace_bytes($0, threads.count)
        }
        let workspace = try Tensor.empty([Int(bytes)], dtype: .uint8)
        guard !DryRun.isOn else { return (output, logSumExp) }
        let status = described(query, key) { attention in
            withAddresses(of: operands + [output, logSumExp, workspace]) { address in
                ckernels_attention_forward(
                    threads, attention, CKernelsHeads(address[0], shape),
                    CKernelsHeads(address[1], key.shape),
                    CKernelsHeads(address[2], key.shape), CKernelsMutableHeads(address[3], shape),
                    address[4].assumingMemoryBound(to: Float.self), address[5])
            }
        }
        precondition(status == 0, "the kernel refused its arguments")
        Trace.noteKernel("attention", inputs: operands, outputs: [output, logSumExp])
        return (output, logSumExp)
    }

    /// Computes the gradients of query, key and value from the output's.
    ///
    /// `dV = P^T dO`, `dS = P (dO V^T - rowsum(dO O))`, `dQ = scale dS K`, `dK = scale dS^T Q` with
    /// `P = exp(scale Q K^T - log sum exp)`; P and dS are rounded to bfloat16 before their products.
    ///
    /// - Parameters:
    ///   - gradient: of the output, `[N, H, D]`, bfloat16.
    ///   - query: as in forward.
    ///   - key: as in forward.
    ///   - value: as in forward.
    ///   - output: what forward returned.
    ///   - logSumExp: what forward returned.
    /// - Returns: gradients of the shapes of query, key and value, bfloat16.
    /// - Throws: `TorchError` if memory runs out.
    /// - Precondition: as forward's.
    /// - Memory: during the call one and a half times key and value, packed, and float32 gradients of the key and value of a
    ///   segment and head: one for each thread or, where segments and heads are few, about eight in all.
    package func backward(
        gradient: Tensor, query: Tensor, key: Tensor, value: Tensor, output: Tensor,
        logSumExp: Tensor
    ) throws(TorchError) -> (query: Tensor, key: Tensor, value: Tensor) {
        var operands: [Tensor] = []
        for operand in [query, key, value, output, gradient, logSumExp] {
            operands.append(try operand.contiguous())
        }
        let results = [
            try Tensor.empty(query.shape, dtype: .bfloat16),
            try Tensor.empty(key.shape, dtype: .bfloat16),
            try Tensor.empty(key.shape, dtype: .bfloat16),
        ]
        let bytes = described(query, key) {
            ckernels_attention_backward_workspace_bytes($0, threads.count)
        }
        let workspace = try Tensor.empty([Int(bytes)], dtype: .uint8)
        guard !DryRun.isOn else { return (results[0], results[1], results[2]) }
        let (wide, narrow) = (query.shape, key.shape)
        let status = described(query, key) { attention in
            withAddresses(of: operands + results + [workspace]) { address in
                ckernels_attention_backward(
                    threads, attention, CKernelsHeads(address[0], wide),
                    CKernelsHeads(address[1], narrow),
                    CKernelsHeads(address[2], narrow), CKernelsHeads(address[3], wide),
                    CKernelsHeads(address[4], wide), address[5].assumingMemoryBound(to: Float.self),
                    CKernelsMutableHeads(address[6], wide),
                    CKernelsMutableHeads(address[7], narrow),
                    CKernelsMutableHeads(address[8], narrow), address[9])
            }
        }
        precondition(status == 0, "the kernel refused its arguments")
        Trace.noteKernel("attention", inputs: operands, outputs: results)
        return (results[0], results[1], results[2])
    }

    /// Calls `body` with the kernel's description of the attention of these operands.
    private func described<Result>(
        _ query: Tensor, _ key: Tensor, _ body: (UnsafePointer<CKernelsAttention>) -> Result
    ) -> Result {
        let shape = query.shape
        precondition(segmentLengths.reduce(0, +) == shape[0], "another number of tokens")
        return segmentLengths.withUnsafeBufferPointer { lengths in
            var attention = CKernelsAttention(
                num_segments: Int64(lengths.count), segment_lengths: lengths.baseAddress,
                num_heads: Int64(shape[1]), num_key_value_heads: Int64(key.shape[1]),
                head_size: Int64(shape[2]), window: Int64(window), scale: scale)
            return body(&attention)
        }
    }
}

/// Calls `body` with the addresses of the elements of contiguous tensors, in their order.
private func withAddresses<Result>(
    of tensors: [Tensor], _ body: ([UnsafeMutableRawPointer]) -> Result
) -> Result {
    func collect(_ addresses: [UnsafeMutableRawPointer]) -> Result {
        guard addresses.count < tensors.count else { return body(addresses) }
        return tensors[addresses.count].withUnsafeMutableBytes { bytes in
            guard let address = bytes.baseAddress else {
                preconditionFailure("a tensor without elements")
            }
            return collect(addresses + [address])
        }
    }
    return collect([])
}

extension CKernelsHeads {
    /// A contiguous `[N, heads, D]`.
    fileprivate init(_ address: UnsafeMutableRawPointer, _ shape: [Int]) {
        self.init(
            data: address.assumingMemoryBound(to: UInt16.self),
            token_stride: Int64(shape[1] * shape[2]), head_stride: Int64(shape[2]))
    }
}

extension CKernelsMutableHeads {
    /// A contiguous `[N, heads, D]`.
    fileprivate init(_ address: UnsafeMutableRawPointer, _ shape: [Int]) {
        self.init(
            data: address.assumingMemoryBound(to: UInt16.self),
            token_stride: Int64(shape[1] * shape[2]), head_stride: Int64(shape[2]))
    }
}
