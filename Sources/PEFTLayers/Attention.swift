public import Torch

// N tokens of all segments, S segments of one length L, H query heads, G key/value heads, D head dimension.

/// Causal grouped-query attention, block-diagonal over the segments of a flattened batch.
///
/// `output = softmax(Q K^T / sqrt(D)) V` for each head, a token seeing itself and what is before it in its own segment, of a window
/// the nearest. Where the processor multiplies bfloat16 numbers the whole batch goes through ``AttentionKernel``; else segments of
/// one length go through libtorch's flash kernel together, on a device through the kernel that libtorch has for it. So a mask exists
/// for segments longer than a window only, and cost falls with the blocks. Capped scores go through plain operations.
///
/// - Source: Vaswani et al. 2017, equation 1; Ainslie et al. 2023 (grouped queries).
public enum Attention {
    /// Attends within each segment.
    ///
    /// - Parameters:
    ///   - query: `[N, H, D]`.
    ///   - key: `[N, G, D]`, H a multiple of G.
    ///   - value: `[N, G, D]`.
    ///   - layout: the segments.
    ///   - scale: factor of the scores, usually `1 / sqrt(D)`.
    ///   - window: how many keys a token sees at most, itself among them; nil: all before it.
    ///   - softCap: scores s become `softCap tanh(s / softCap)`; nil leaves them.
    /// - Returns: `[N, H, D]`, the query's dtype.
    /// - Throws: `TorchError` if the shapes do not fit.
    /// - Memory: saves query, key, value, output and one float32 a token and head; in libtorch's kernel a float32 mask of the longest
    ///   segment that is longer than the window; with a cap see ``CappedAttention``.
    public static func causal(
        query: Tensor, key: Tensor, value: Tensor, layout: SequenceLayout, scale: Double,
        window: Int? = nil, softCap: Double? = nil
    ) throws(TorchError) -> Tensor {
        if let sharing = layout.sharing {
            try requireFit(
                query, key, value, numQueries: layout.numTokens, numKeys: layout.numTokens)
            let rows = try sharing.inRows([query, key, value])
            return try sharing.once(
                causal(
                    query: rows[0], key: rows[1], value: rows[2], layout: sharing.rows,
                    scale: scale, window: window, softCap: softCap))
        }
        guard let softCap else {
            return try causal(
                query: query, key: key, value: value, layout: layout, scale: scale,
                window: window, instructionSet: .best)
        }
        try requireFit(query, key, value, numQueries: layout.numTokens, numKeys: layout.numTokens)
        return try CappedAttention(scale: scale, window: window, softCap: softCap)
            .causal(query: query, key: key, value: value, layout: layout)
    }

    /// The same on a given instruction set: with products of bfloat16 numbers by the kernel where it can, else by libtorch.
    package static func causal(
        query: Tensor, key: Tensor, value: Tensor, layout: SequenceLayout, scale: Double,
        window: Int? = nil, instructionSet: InstructionSet
    ) throws(TorchError) -> Tensor {
        try requireFit(query, key, value, numQueries: layout.numTokens, numKeys: layout.numTokens)
        guard query.device.isHost else {
            return try byLibtorch(
                query: query, key: key, value: value, layout: layout, scale: scale,
                window: window)
        }
        let usesKernel = AttentionKernel.isUsable(
            for: [query, key, value], scale: scale, instructionSet: instructionSet)
        let outputs = try Autograd.node("attention", inputs: [query, key, value]) {
            () throws(TorchError) -> (outputs: [Tensor], pullback: Pullback) in
            let inputs = Inputs(
                query: try query.detach(), key: try key.detach(), value: try value.detach(),
                scale: scale, window: window)
            return usesKernel ? try inputs.attendByKernel(layout) : try inputs.attendByRuns(layout)
        }
        return outputs[0]
    }

    /// Attends from the newest token to all cached ones; not differentiable.
    ///
    /// By ``AttentionKernel/newest(query:key:value:scale:threads:)`` where the processor multiplies bfloat16 numbers, else by libtorch's
    /// flash kernel on keys and values that are repeated for the heads that share them.
    ///
    /// - Parameters:
    ///   - query: `[1, H, D]`.
    ///   - key: `[N, G, D]`.
    ///   - value: `[N, G, D]`.
    ///   - scale: factor of the scores.
    ///   - window: how many of the keys it sees at most, the last ones; nil: all.
    ///   - softCap: scores s become `softCap tanh(s / softCap)`; nil leaves them.
    /// - Returns: `[1, H, D]`.
    /// - Throws: `TorchError` if the shapes do not fit.
    public static func newest(
        query: Tensor, key: Tensor, value: Tensor, scale: Double, window: Int? = nil,
        softCap: Double? = nil
    ) throws(TorchError) -> Tensor {
        let numKeys = key.shape.first ?? 0
        try requireFit(query, key, value, numQueries: 1, numKeys: numKeys)
        let seen = min(window ?? numKeys, numKeys)
        let (key, value) = (
            try key.narrow(0, numKeys - seen, seen), try value.narrow(0, numKeys - seen, seen)
        )
        guard let softCap else {
            return try newest(
                query: query, key: key, value: value, scale: scale, instructionSet: .best)
        }
        return try CappedAttention(scale: scale, window: nil, softCap: softCap)
            .newest(query: query, key: key, value: value)
    }

    /// The same on a given instruction set.
    package static func newest(
        query: Tensor, key: Tensor, value: Tensor, scale: Double, instructionSet: InstructionSet
    ) throws(TorchError) -> Tensor {
        try requireFit(query, key, value, numQueries: 1, numKeys: key.shape.first ?? 0)
        if AttentionKernel.isUsable(
            for: [query, key, value], scale: scale, instructionSet: instructionSet)
        {
            return try AttentionKernel.newest(query: query, key: key, value: value, scale: scale)
        }
        let numTokens = key.shape[0]
        let group = query.shape[1] / key.shape[1]
        let all = SequenceLayout.Run(firstToken: 0, count: 1, length: numTokens)
        guard query.device.isHost else {
            return try attended(query, key, value, all, isCausal: false, scale: scale)
        }
        let result = try FlashAttention(
            query: query.transposed(0, 1).unsqueezed(0),
            key: segmentsFirst(key, all, repeatedBy: group),
            value: segmentsFirst(value, all, repeatedBy: group), isCausal: false, scale: scale)
        return try tokensFirst(result.output)
    }

    /// Attention on a device: runs of segments of one length, one after the other, by libtorch's differentiable operation.
    private static func byLibtorch(
        query: Tensor, key: Tensor, value: Tensor, layout: SequenceLayout, scale: Double,
        window: Int?
    ) throws(TorchError) -> Tensor {
        let runs = layout.runs
        let mask = try windowMask(runs, window: window)
        return try joined(
            try runs.map { run throws(TorchError) in
                let tokens = try query.narrow(0, run.firstToken, run.count * run.length)
                return try attended(
                    tokens, key, value, run, isCausal: true, mask: mask(run), scale: scale)
            })
    }

    /// The attention of the queries of a run, `[n, H, D]`, to its keys and values, which are those of all tokens, by libtorch.
    private static func attended(
        _ query: Tensor, _ key: Tensor, _ value: Tensor, _ run: SequenceLayout.Run, isCausal: Bool,
        mask: Tensor? = nil, scale: Double
    ) throws(TorchError) -> Tensor {
        let (shape, group) = (query.shape, query.shape[1] / key.shape[1])
        let queries = SequenceLayout.Run(
            firstToken: 0, count: run.count, length: shape[0] / run.count)
        let output = try segmentsFirst(query, queries, repeatedBy: 1).attention(
            key: segmentsFirst(key, run, repeatedBy: group),
            value: segmentsFirst(value, run, repeatedBy: group), isCausal: isCausal && mask == nil,
            mask: mask?.to(query.dtype).to(query.device), scale: scale)
        return try tokensFirst(output)
    }

    /// Refuses what would otherwise be cut short or repeated without a word.
    private static func requireFit(
        _ query: Tensor, _ key: Tensor, _ value: Tensor, numQueries: Int, numKeys: Int
    ) throws(TorchError) {
        let (queries, keys) = (query.shape, key.shape)
        guard queries.count == 3, keys.count == 3, keys == value.shape, queries[0] == numQueries,
            keys[0] == numKeys, keys[1] > 0, queries[1].isMultiple(of: keys[1]),
            queries[2] == keys[2]
        else {
            throw TorchError(
                operation: "attention", operands: [query, key, value].map(\.summary),
                message: """
                    expected a query [\(numQueries), H, D], key and value [\(numKeys), G, D], \
                    H a multiple of G
                    """)
        }
    }

    private struct Inputs {
        let query: Tensor
        let key: Tensor
        let value: Tensor
        let scale: Double
        let window: Int?

        /// Query heads that share one key/value head.
        var group: Int { query.shape[1] / key.shape[1] }

        /// The whole batch at once.
        func attendByKernel(
            _ layout: SequenceLayout
        ) throws(TorchError) -> (outputs: [Tensor], pullback: Pullback) {
            let kernel = AttentionKernel(layout: layout, scale: scale, window: window)
            let (output, logSumExp) = try kernel.forward(query: query, key: key, value: value)
            let saved = try output.detach()
            let pullback: Pullback = { gradients throws(TorchError) in
                guard let gradient = gradients[0] else { return [nil, nil, nil] }
                let results = try kernel.backward(
                    gradient: gradient, query: query, key: key, value: value, output: saved,
                    logSumExp: logSumExp)
                return [results.query, results.key, results.value]
            }
            return ([output], pullback)
        }

        /// Runs of segments of one length, one after the other.
        func attendByRuns(
            _ layout: SequenceLayout
        ) throws(TorchError) -> (outputs: [Tensor], pullback: Pullback) {
            let runs = layout.runs
            let mask = try windowMask(runs, window: window)
            var results: [FlashAttention] = []
            for run in runs {
                results.append(try forward(run, mask: mask(run)))
            }
            let output = try joined(
                try results.map { result throws(TorchError) in
                    try tokensFirst(result.output)
                })
            let pullback: Pullback = { [results] gradients throws(TorchError) in
                guard let gradient = gradients[0] else { return [nil, nil, nil] }
                return try backward(gradient, runs: runs, results: results, mask: mask)
            }
            return ([output], pullback)
        }

        func forward(
            _ run: SequenceLayout.Run, mask: Tensor?
        ) throws(TorchError) -> FlashAttention {
            try FlashAttention(
                query: segmentsFirst(query, run, repeatedBy: 1),
                key: segmentsFirst(key, run, repeatedBy: group),
                value: segmentsFirst(value, run, repeatedBy: group), isCausal: mask == nil,
                mask: mask, scale: scale)
        }

        func backward(
            _ gradient: Tensor, runs: [SequenceLayout.Run], results: [FlashAttention],
            mask: (SequenceLayout.Run) throws(TorchError) -> Tensor?
        ) throws(TorchError) -> [Tensor?] {
            var queries: [Tensor] = []
            var keys: [Tensor] = []
            var values: [Tensor] = []
            for (run, result) in zip(runs, results) {
                let mask = try mask(run)
                let gradients = try FlashAttention.backward(
                    gradient: segmentsFirst(gradient, run, repeatedBy: 1),
                    query: segmentsFirst(query, run, repeatedBy: 1),
                    key: segmentsFirst(key, run, repeatedBy: group),
                    value: segmentsFirst(value, run, repeatedBy: group), output: result.output,
                    logSumExp: result.logSumExp, isCausal: mask == nil, mask: mask, scale: scale)
                queries.append(try tokensFirst(gradients.query))
                keys.append(try summedOverGroup(tokensFirst(gradients.key)))
                values.append(try summedOverGroup(tokensFirst(gradients.value)))
            }
            return [try joined(queries), try joined(keys), try joined(values)]
        }

        /// `[N, H, D] -> [N, G, D]`: the gradients of a shared head add up.
        private func summedOverGroup(_ gradient: Tensor) throws(TorchError) -> Tensor {
            guard group > 1 else { return gradient }
            let shape = gradient.shape
            return try gradient.reshape([shape[0], shape[1] / group, group, shape[2]]).sum([2])
        }
    }

    /// What is added to the scores of a run whose segments are longer than the window: 0 or minus infinity; nil for others.
    private static func windowMask(
        _ runs: [SequenceLayout.Run], window: Int?
    ) throws(TorchError) -> (SequenceLayout.Run) throws(TorchError) -> Tensor? {
        let longest = runs.map(\.length).max() ?? 0
        guard let window, longest > window else { return { _ in nil } }
        let whole = try mask(numTokens: longest, window: window)
        return { run throws(TorchError) in
            guard run.length > window else { return nil }
            return try whole.narrow(0, 0, run.length).narrow(1, 0, run.length)
        }
    }

    /// What is added to the scores, float32 `[numTokens, numTokens]`: 0 where a token sees another, else minus infinity.
    static func mask(numTokens: Int, window: Int?) throws(TorchError) -> Tensor {
        let window = window ?? numTokens
        var values = [Float](repeating: -.infinity, count: numTokens * numTokens)
        for row in 0..<numTokens {
            for column in max(0, row - window + 1)...row { values[row * numTokens + column] = 0 }
        }
        return try Tensor(values, shape: [numTokens, numTokens])
    }

    /// `[N, G, D] -> [S, G * times, L, D]`, the tokens of one run.
    static func segmentsFirst(
        _ states: Tensor, _ run: SequenceLayout.Run, repeatedBy times: Int
    ) throws(TorchError) -> Tensor {
        let (heads, headDim) = (states.shape[1], states.shape[2])
        let tokens = try states.narrow(0, run.firstToken, run.count * run.length)
        let segments = try tokens.reshape([run.count, run.length, heads, headDim])
        let first = try segments.transposed(1, 2)  // [S, G, L, D]
        guard times > 1 else { return first }
        return try first.unsqueezed(2)
            .expanded([run.count, heads, times, run.length, headDim])
            .reshape([run.count, heads * times, run.length, headDim])
    }

    /// `[S, H, L, D] -> [S * L, H, D]`.
    static func tokensFirst(_ states: Tensor) throws(TorchError) -> Tensor {
        let shape = states.shape
        return try states.transposed(1, 2).reshape([shape[0] * shape[2], shape[1], shape[3]])
    }

    static func joined(_ parts: [Tensor]) throws(TorchError) -> Tensor {
        parts.count == 1 ? parts[0] : try Tensor.concatenated(parts)
    }
}
