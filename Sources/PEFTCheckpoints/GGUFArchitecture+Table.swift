/// The families that can be read.
///
/// - Source: llama.cpp `conversion/` (names and what is done to tensors: gguf 0.19.0 `gguf/tensor_mapping.py`) and
///   `src/llama-model.cpp:load_hparams` (what the metadata does not say).
extension GGUFArchitecture {
    /// By `general.architecture`.
    static let table: [String: GGUFArchitecture] = [
        "llama": .llama, "qwen2": .qwen2, "qwen3": .qwen3, "qwen3moe": .qwen3MoE,
        "smollm3": .smolLM3,
        "granite": .granite, "olmo2": .olmo2, "olmoe": .olmoe, "phi3": .phi3, "gemma2": .gemma2,
        "gemma3": .gemma3,
        "gptneox": .gptNeoX, "gpt2": .gpt2,
    ]

    /// Llama, and the models that share its block: Mistral, SmolLM2, TinyLlama.
    private static let llama = GGUFArchitecture(
        modelType: "llama", className: "LlamaForCausalLM", names: llamaNames,
        blockNames: llamaBlockNames, rowOrders: interleaved, settings: biases)

    private static let qwen2 = GGUFArchitecture(
        modelType: "qwen2", className: "Qwen2ForCausalLM", names: llamaNames,
        blockNames: llamaBlockNames, settings: { _ in [:] })

    private static let qwen3 = GGUFArchitecture(
        modelType: "qwen3", className: "Qwen3ForCausalLM", names: llamaNames,
        blockNames: llamaBlockNames.merging(headNorms) { $1 }, settings: biases)

    /// Mixtral: the architecture of Llama with experts.
    static let mixtral = GGUFArchitecture(
        modelType: "mixtral", className: "MixtralForCausalLM", names: llamaNames,
        blockNames: llamaBlockNames.merging(router) { $1 }, rowOrders: interleaved,
        expertTensors: experts,
        settings: { values throws(CheckpointError) in
            [
                "num_local_experts": try values.required("expert_count"),
                "num_experts_per_tok": try values.required("expert_used_count"),
            ]
        })

    private static let qwen3MoE = GGUFArchitecture(
        modelType: "qwen3_moe", className: "Qwen3MoeForCausalLM", names: llamaNames,
        blockNames: llamaBlockNames.merging(headNorms) { $1 }.merging(router) { $1 },
        expertTensors: experts,
        settings: { values throws(CheckpointError) in
            let own: [String: Any] = [
                "num_experts": try values.required("expert_count"),
                "num_experts_per_tok": try values.required("expert_used_count"),
                "moe_intermediate_size": try values.required("expert_feed_forward_length"),
                // llama.cpp always divides by the sum.
                "norm_topk_prob": true,
            ]
            return biases(values).merging(own) { $1 }
        })

    private static let olmoe = GGUFArchitecture(
        modelType: "olmoe", className: "OlmoeForCausalLM", names: llamaNames,
        blockNames: llamaBlockNames.merging(headNorms) { $1 }.merging(router) { $1 },
        expertTensors: experts,
        settings: { values throws(CheckpointError) in
            let own: [String: Any] = [
                "num_experts": try values.required("expert_count"),
                "num_experts_per_tok": try values.required("expert_used_count"),
                // llama.cpp never divides by the sum.
                "norm_topk_prob": false,
            ]
            return biases(values).merging(own) { $1 }
        })

    private static let smolLM3 = GGUFArchitecture(
        modelType: "smollm3", className: "SmolLM3ForCausalLM", names: llamaNames,
        blockNames: llamaBlockNames, rowOrders: interleaved,
        settings: { values in
            // llama.cpp knows no other interval.
            biases(values).merging(["no_rope_layer_interval": 4]) { $1 }
        })

    private static let granite = GGUFArchitecture(
        modelType: "granite", className: "GraniteForCausalLM", names: llamaNames,
        blockNames: llamaBlockNames, rowOrders: interleaved,
        settings: { values in
            let usualScale = 1 / Double(values.headDim).squareRoot()
            let own: [String: Any] = [
                "attention_multiplier": values.double("attention.scale") ?? usualScale,
                "embedding_multiplier": values.double("embedding_scale") ?? 1,
                "residual_multiplier": values.double("residual_scale") ?? 1,
                "logits_scaling": values.double("logit_scale") ?? 1,
            ]
            return biases(values).merging(own) { $1 }
        })

    private static let olmo2 = GGUFArchitecture(
        modelType: "olmo2", className: "Olmo2ForCausalLM", names: llamaNames,
        blockNames: llamaBlockNames.merging(headNorms) { $1 }.merging([
            "post_attention_norm": "post_attention_layernorm",
            "post_ffw_norm": "post_feedforward_layernorm",
        ]) { $1 }, settings: { _ in [:] })

    private static let phi3 = GGUFArchitecture(
        modelType: "phi3", className: "Phi3ForCausalLM", names: llamaNames,
        blockNames: [
            "attn_norm": "input_layernorm",
            "attn_qkv": "self_attn.qkv_proj",
            "attn_output": "self_attn.o_proj",
            "ffn_norm": "post_attention_layernorm",
            "ffn_up": "mlp.gate_up_proj",
            "ffn_down": "mlp.down_proj",
        ], hasWindow: true, rotatesPart: true, hasLongRoPE: true,
        settings: { values throws(CheckpointError) in
            let length = values.int("rope.scaling.original_context_length")
            var config: [String: Any] = [
                "partial_rotary_factor": values.rotatedShare,
                "original_max_position_embeddings": length ?? values.maxPositionEmbeddings,
            ]
            // Zero says that there is none.
            if let window = values.int("attention.sliding_window"), window > 0 {
                config["sliding_window"] = window
            }
            if let long = try values.floats("rope_factors_long.weight"),
                let short = try values.floats("rope_factors_short.weight")
            {
                var rope: [String: Any] = [
                    "type": "longrope", "long_factor": long, "short_factor": short,
                ]
                rope["attention_factor"] = values.double("rope.scaling.attn_factor")
                config["rope_scaling"] = rope
            }
            return config
        })

    private static let gemma2 = GGUFArchitecture(
        modelType: "gemma2", className: "Gemma2ForCausalLM", names: llamaNames,
        blockNames: gemmaBlockNames, normOffset: 1, hasWindow: true,
        settings: { values in
            var config = gemma(values, isLargest: values.numHiddenLayers == 46)
            config["attn_logit_softcapping"] = values.double("attn_logit_softcapping")
            config["final_logit_softcapping"] = values.double("final_logit_softcapping")
            return config
        })

    private static let gemma3 = GGUFArchitecture(
        modelType: "gemma3_text", className: "Gemma3ForCausalLM", names: llamaNames,
        blockNames: gemmaBlockNames.merging(headNorms) { $1 }, normOffset: 1, hasWindow: true,
        settings: { values in
            var config = gemma(values, isLargest: values.numHiddenLayers == 62)
            config["final_logit_softcapping"] = values.double("final_logit_softcapping")
            config["rope_local_base_freq"] = values.double("rope.freq_base_swa") ?? 10_000
            config["sliding_window_pattern"] =
                values.int("attention.sliding_window_pattern") ?? 6
            return config
        })

    private static let gptNeoX = GGUFArchitecture(
        modelType: "gpt_neox", className: "GPTNeoXForCausalLM", layers: "gpt_neox.layers",
        names: [
            "token_embd": "gpt_neox.embed_in",
            "output_norm": "gpt_neox.final_layer_norm",
            "output": "lm_head",
        ],
        blockNames: [
            "attn_norm": "input_layernorm",
            "attn_qkv": "attention.query_key_value",
            "attn_output": "attention.dense",
            "ffn_norm": "post_attention_layernorm",
            "ffn_up": "mlp.dense_h_to_4h",
            "ffn_down": "mlp.dense_4h_to_h",
        ], rowOrders: ["attn_qkv": .queriesKeysValues],
        normEpsilonKey: "attention.layer_norm_epsilon", normEpsilonName: "layer_norm_eps",
        rotatesPart: true,
        settings: { values in
            [
                "hidden_act": "gelu",
                "rotary_pct": values.rotatedShare,
                "use_parallel_residual": values.bool("use_parallel_residual") ?? true,
                "attention_bias": values.hasTensor("blk.0.attn_qkv.bias"),
            ]
        })

    private static let gpt2 = GGUFArchitecture(
        modelType: "gpt2", className: "GPT2LMHeadModel", layers: "transformer.h",
        names: [
            "token_embd": "transformer.wte",
            "position_embd": "transformer.wpe",
            "output_norm": "transformer.ln_f",
            "output": "lm_head",
        ],
        blockNames: [
            "attn_norm": "ln_1",
            "attn_qkv": "attn.c_attn",
            "attn_output": "attn.c_proj",
            "ffn_norm": "ln_2",
            "ffn_up": "mlp.c_fc",
            "ffn_down": "mlp.c_proj",
        ], normEpsilonKey: "attention.layer_norm_epsilon", normEpsilonName: "layer_norm_epsilon",
        attributes: [
            "hidden_size": "n_embd", "max_position_embeddings": "n_positions",
            "num_attention_heads": "n_head", "num_hidden_layers": "n_layer",
            "intermediate_size": "n_inner", "hidden_act": "activation_function",
        ], settings: { _ in ["hidden_act": "gelu_new"] })

    // MARK: - What families share

    private static let llamaNames = [
        "token_embd": "model.embed_tokens",
        "output_norm": "model.norm",
        "output": "lm_head",
    ]
    private static let llamaBlockNames = [
        "attn_norm": "input_layernorm",
        "attn_q": "self_attn.q_proj",
        "attn_k": "self_attn.k_proj",
        "attn_v": "self_attn.v_proj",
        "attn_output": "self_attn.o_proj",
        "ffn_norm": "post_attention_layernorm",
        "ffn_gate": "mlp.gate_proj",
        "ffn_up": "mlp.up_proj",
        "ffn_down": "mlp.down_proj",
    ]
    private static let headNorms = [
        "attn_q_norm": "self_attn.q_norm",
        "attn_k_norm": "self_attn.k_norm",
    ]
    private static let router = ["ffn_gate_inp": "mlp.gate"]
    private static let experts = [
        "mlp.experts.gate_up_proj": ["ffn_gate_exps", "ffn_up_exps"],
        "mlp.experts.down_proj": ["ffn_down_exps"],
    ]
    private static let gemmaBlockNames = llamaBlockNames.merging([
        "post_attention_norm": "post_attention_layernorm",
        "ffn_norm": "pre_feedforward_layernorm",
        "post_ffw_norm": "post_feedforward_layernorm",
    ]) { $1 }
    private static let interleaved: [String: RowOrder] = [
        "attn_q": .interleavedQueries, "attn_k": .interleavedKeys,
    ]

    @Sendable private static func biases(_ values: GGUFHyperParameters) -> [String: Any] {
        [
            "attention_bias": values.hasTensor("blk.0.attn_q.bias"),
            "mlp_bias": values.hasTensor("blk.0.ffn_up.bias"),
        ]
    }

    /// What both Gemmas have; llama.cpp scales the scores of a family's largest model in another way.
    private static func gemma(
        _ values: GGUFHyperParameters, isLargest: Bool
    ) -> [String: Any] {
        var config: [String: Any] = [
            "hidden_activation": "gelu_pytorch_tanh",
            "query_pre_attn_scalar": isLargest
                ? values.hiddenSize / values.numAttentionHeads : values.headDim,
        ]
        config["sliding_window"] = values.int("attention.sliding_window")
        return config
    }
}
