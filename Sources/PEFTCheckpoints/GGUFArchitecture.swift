import Foundation

/// How one model family is written in GGUF: its tensor names and its configuration.
struct GGUFArchitecture: Sendable {
    /// The `model_type` and `architectures` of Hugging Face.
    let modelType: String
    let className: String
    /// Names outside the blocks, without ".weight" or ".bias".
    let names: [String: String]
    /// Names inside a block, without "blk.N." and ".weight" or ".bias".
    let blockNames: [String: String]
    /// Whether rows of the query and key projections are interleaved for llama.cpp's rotary embedding.
    let interleavesQueryAndKey: Bool

    /// The families that can be read, by `general.architecture`.
    static let table: [String: GGUFArchitecture] = [
        "llama": .llama
    ]

    /// The architecture of `file`.
    ///
    /// - Throws: `CheckpointError.unsupported` for a family that is not in the table.
    static func of(_ file: GGUFFile) throws(CheckpointError) -> GGUFArchitecture {
        let name = file.metadata.string("general.architecture") ?? "none"
        guard let architecture = table[name] else {
            throw .unsupported(
                path: file.file.url.path, reason: "the GGUF architecture is \(name)",
                remedy: "supported are " + table.keys.sorted().joined(separator: ", "))
        }
        return architecture
    }

    /// The Hugging Face name of a tensor; nil if the family has no such tensor.
    func huggingFaceName(_ name: String) -> String? {
        guard let dot = name.lastIndex(of: "."), [".weight", ".bias"].contains(name[dot...]) else {
            return nil
        }
        let suffix = name[dot...]
        if let mapped = names[String(name[..<dot])] { return mapped + suffix }
        let parts = name[..<dot].split(separator: ".", omittingEmptySubsequences: false)
        guard parts.count == 3, parts[0] == "blk", let layer = Int(parts[1]),
            let mapped = blockNames[String(parts[2])]
        else { return nil }
        return "model.layers.\(layer).\(mapped)\(suffix)"
    }

    /// The number of heads whose rows are interleaved in the tensor; nil if the rows are in order.
    func numInterleavedHeads(_ name: String, _ file: GGUFFile) throws(CheckpointError) -> Int? {
        guard interleavesQueryAndKey else { return nil }
        let shape = try GGUFHyperParameters(file)
        switch name.split(separator: ".").dropFirst(2).first {
        case "attn_q": return shape.numAttentionHeads
        case "attn_k": return shape.numKeyValueHeads
        default: return nil
        }
    }

    /// Llama, and the models that share its block: Mistral, SmolLM2, TinyLlama.
    static let llama = GGUFArchitecture(
        modelType: "llama", className: "LlamaForCausalLM",
        names: [
            "token_embd": "model.embed_tokens",
            "output_norm": "model.norm",
            "output": "lm_head",
        ],
        blockNames: [
            "attn_norm": "input_layernorm",
            "attn_q": "self_attn.q_proj",
            "attn_k": "self_attn.k_proj",
            "attn_v": "self_attn.v_proj",
            "attn_output": "self_attn.o_proj",
            "ffn_norm": "post_attention_layernorm",
            "ffn_gate": "mlp.gate_proj",
            "ffn_up": "mlp.up_proj",
            "ffn_down": "mlp.down_proj",
        ],
        interleavesQueryAndKey: true)

    /// A `config.json` with what the metadata says, in Hugging Face's keys.
    ///
    /// - Throws: `CheckpointError` if keys are missing, or ask for something that is not supported.
    func configuration(_ file: GGUFFile) throws(CheckpointError) -> Data {
        let values = try GGUFHyperParameters(file)
        var config: [String: Any] = [
            "architectures": [className],
            "model_type": modelType,
            "hidden_act": "silu",
            "hidden_size": values.hiddenSize,
            "intermediate_size": values.intermediateSize,
            "num_hidden_layers": values.numHiddenLayers,
            "num_attention_heads": values.numAttentionHeads,
            "num_key_value_heads": values.numKeyValueHeads,
            "head_dim": values.headDim,
            "rms_norm_eps": values.rmsNormEps,
            "rope_theta": values.ropeTheta,
            "max_position_embeddings": values.maxPositionEmbeddings,
            "vocab_size": values.vocabSize,
            "tie_word_embeddings": file.info("output.weight") == nil,
            "attention_bias": file.info("blk.0.attn_q.bias") != nil,
            "mlp_bias": file.info("blk.0.ffn_up.bias") != nil,
        ]
        for (key, name) in [("bos", "bos"), ("eos", "eos"), ("pad", "padding")] {
            config["\(key)_token_id"] = file.metadata.int("tokenizer.ggml.\(name)_token_id")
        }
        do {
            return try JSONSerialization.data(
                withJSONObject: config, options: [.prettyPrinted, .sortedKeys])
        } catch {
            throw .malformed(
                path: file.file.url.path, reason: "a hyper-parameter is not a finite number",
                remedy: "convert the model again")
        }
    }
}
