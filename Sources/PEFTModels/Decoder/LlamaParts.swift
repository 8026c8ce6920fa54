import PEFTLayers

/// Parts of a block under the names that Llama gave them and most families kept.
extension DecoderConfig {
    /// An RMSNorm as Llama has it.
    func rmsNorm(_ scope: Scope) throws -> RMSNorm {
        try RMSNorm(hiddenSize: hiddenSize, epsilon: rmsNormEps, scope)
    }

    /// Attention of `q_proj`, `k_proj`, `v_proj`, `o_proj` and, if they are made, `q_norm` and `k_norm`.
    ///
    /// - Parameters:
    ///   - options: what scores depend on.
    ///   - scope: the attention's place.
    ///   - bias: whether query, key and value have a bias.
    ///   - outputBias: whether the output has one.
    ///   - makeNorm: makes a norm of so many heads' queries or keys; nil for none.
    /// - Returns: the attention of the block.
    /// - Throws: the source's error.
    func attention(
        _ options: SelfAttention.Options, _ scope: Scope, bias: Bool = false,
        outputBias: Bool = false, norm makeNorm: ((Int, Scope) throws -> RMSNorm)? = nil
    ) throws -> SelfAttention {
        let (own, shared) = (numAttentionHeads, keyValueHeads)
        func linear(_ name: String, numHeads: Int) throws -> Linear {
            try scope.linear(
                name, inFeatures: hiddenSize, outFeatures: numHeads * headSize, bias: bias)
        }
        let projections = QueryKeyValue.separate(
            query: try linear("q_proj", numHeads: own),
            key: try linear("k_proj", numHeads: shared),
            value: try linear("v_proj", numHeads: shared))
        let output = try scope.linear(
            "o_proj", inFeatures: own * headSize, outFeatures: hiddenSize, bias: outputBias)
        return SelfAttention(
            options, projections,
            queryNorm: try makeNorm?(own, scope / "q_norm"),
            keyNorm: try makeNorm?(shared, scope / "k_norm"), output: output)
    }

    /// A gated feed-forward part of `gate_proj`, `up_proj` and `down_proj`.
    func gatedFeedForward(_ scope: Scope, bias: Bool = false) throws -> FeedForward {
        func wide(_ name: String) throws -> Linear {
            try scope.linear(
                name, inFeatures: hiddenSize, outFeatures: intermediateSize, bias: bias)
        }
        let up = FeedForward.Up.gated(gate: try wide("gate_proj"), up: try wide("up_proj"))
        let down = try scope.linear(
            "down_proj", inFeatures: intermediateSize, outFeatures: hiddenSize, bias: bias)
        return FeedForward(up: up, activation: activation, down: down)
    }

    /// A block with a norm before each part.
    ///
    /// - Parameters:
    ///   - scope: the block's place.
    ///   - residualMultiplier: factor of what each part adds.
    ///   - makeAttention: makes the part at `self_attn`.
    ///   - makeFeedForward: makes the part at `mlp`; nil for ``gatedFeedForward(_:bias:)``.
    /// - Returns: the block.
    /// - Throws: the source's error.
    func preNormBlock(
        _ scope: Scope, residualMultiplier: Double = 1,
        attention makeAttention: (Scope) throws -> SelfAttention,
        feedForward makeFeedForward: ((Scope) throws -> any FeedForwardPart)? = nil
    ) throws -> DecoderBlock {
        let before = try rmsNorm(scope / "input_layernorm")
        let attention = try makeAttention(scope / "self_attn")
        let between = try rmsNorm(scope / "post_attention_layernorm")
        let mlp = scope / "mlp"
        return DecoderBlock(
            attentionNorms: DecoderBlock.Norms(before: before), attention,
            feedForwardNorms: DecoderBlock.Norms(before: between),
            try makeFeedForward?(mlp) ?? gatedFeedForward(mlp),
            residualMultiplier: residualMultiplier)
    }
}
