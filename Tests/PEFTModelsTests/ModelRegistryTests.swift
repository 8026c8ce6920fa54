import Foundation
import PEFTLayers
import PEFTModels
import Testing

@Suite struct ModelRegistryTests {
    private func build(_ json: String) throws {
        _ = try ModelRegistry.makeModel(
            config: Data(json.utf8), Scope(registry: ModuleRegistry(), source: ShapeSource()))
    }

    @Test func unknownFamilySaysWhichAreKnown() {
        let error = #expect(throws: ModelError.self) { try build(#"{"model_type": "mamba"}"#) }
        #expect(
            error?.description
                == #"config.json: model_type: found "mamba", but only "#
                + ModelRegistry.modelTypes.joined(separator: ", ")
                + " can be built; choose a model of these families")
        #expect(ModelRegistry.modelTypes.contains("llama"))
    }

    @Test(arguments: [
        (
            #""hidden_act": "relu""#,
            #"config.json: hidden_act: expected one of "silu", "swish", "gelu", "gelu_pytorch_tanh", "#
                + #""gelu_new", "gelu_fast", found "relu""#
        ),
        (
            #""num_attention_heads": 6, "num_key_value_heads": 4"#,
            "config.json: num_key_value_heads: expected a divisor of num_attention_heads, 6, found 4"
        ),
        (
            #""rope_scaling": {"rope_type": "axial"}"#,
            "config.json: rope_scaling.rope_type: expected one of default, linear, dynamic, llama3, "
                + #"yarn, longrope, found "axial""#
        ),
        (
            #""rope_parameters": {"rope_type": "llama3", "factor": 8, "low_freq_factor": 1}"#,
            "config.json: rope_parameters.high_freq_factor: expected a positive number, found nothing"
        ),
        (
            #""rope_scaling": {"type": "longrope", "short_factor": [1, 2], "long_factor": [1]}"#,
            "config.json: rope_scaling.short_factor: expected 64 numbers, one for each pair of rotated "
                + "channels, found 2"
        ),
        (
            #""head_dim": 7"#,
            "config.json: head_dim: expected a positive even number, found 7"
        ),
        (
            #""layer_types": ["full_attention", "chunked_attention"], "num_hidden_layers": 2"#,
            "config.json: layer_types: expected full_attention or sliding_attention for each of 2 layers, "
                + #"found ["full_attention", "chunked_attention"]"#
        ),
        (
            #""hidden_size": "wide""#,
            "config.json: hiddenSize: expected Int, found another type"
        ),
    ])
    func valueThatDoesNotFitIsNamed(setting: String, message: String) {
        let error = #expect(throws: ModelError.self) {
            try build(#"{"model_type": "llama", \#(setting)}"#)
        }
        #expect(error?.description == message)
    }

    @Test(arguments: [
        (
            #""model_type": "mistral", "sliding_window": 0"#,
            "config.json: sliding_window: expected a positive number, or null, found 0"
        ),
        (
            #""model_type": "gemma2", "use_bidirectional_attention": true"#,
            "config.json: use_bidirectional_attention: expected false: a causal language model, found true"
        ),
        (
            #""model_type": "gemma3_text", "attn_logit_softcapping": 50"#,
            "config.json: attn_logit_softcapping: expected null: transformers does not cap the scores of "
                + "this family either, found a number"
        ),
        (
            #""model_type": "smollm3", "no_rope_layers": [1, 0]"#,
            "config.json: no_rope_layers: expected one for each of 36 layers, found 2 numbers"
        ),
        (
            #""model_type": "gpt_neox", "num_key_value_heads": 8"#,
            "config.json: num_key_value_heads: expected num_attention_heads, or nothing, found 8"
        ),
        (
            #""model_type": "mixtral", "output_router_logits": true"#,
            "config.json: output_router_logits: expected false: the loss of the router, which transformers "
                + "then adds, is not computed, found true"
        ),
        (
            #""model_type": "qwen3_moe", "output_router_logits": true"#,
            "config.json: output_router_logits: expected false: the loss of the router, which transformers "
                + "then adds, is not computed, found true"
        ),
        (
            #""model_type": "mixtral", "router_jitter_noise": 0.1"#,
            "config.json: router_jitter_noise: expected 0: noise on the experts' inputs is not computed, "
                + "found 0.1"
        ),
        (
            #""model_type": "olmoe", "clip_qkv": 8"#,
            "config.json: clip_qkv: expected null: queries, keys and values are not bounded, found 8.0"
        ),
        (
            #""model_type": "mixtral", "num_experts_per_tok": 9"#,
            "config.json: num_experts_per_tok: expected at most num_local_experts, 8, found 9"
        ),
        (
            #""model_type": "qwen3_moe", "num_local_experts": 4"#,
            "config.json: num_experts_per_tok: expected at most num_experts, 4, found 8"
        ),
        (
            #""model_type": "qwen3_moe", "moe_intermediate_size": 0"#,
            "config.json: moe_intermediate_size: expected a positive number, found 0"
        ),
        (
            #""model_type": "qwen3_moe", "decoder_sparse_step": 0"#,
            "config.json: decoder_sparse_step: expected a positive number, found 0"
        ),
        (
            #""model_type": "granite", "logits_scaling": 0"#,
            "config.json: logits_scaling: expected another number: it divides the logits, found 0"
        ),
    ])
    func valueThatTheFamilyDoesNotCoverIsNamed(settings: String, message: String) {
        let error = #expect(throws: ModelError.self) { try build("{\(settings)}") }
        #expect(error?.description == message)
    }

    @Test func nullOverridesADefault() throws {
        let read = { (json: String) in try MistralConfig.read(Data(json.utf8)).slidingWindow }
        #expect(try read("{}") == 4096)
        #expect(try read(#"{"sliding_window": null}"#) == nil)
        let error = #expect(throws: ModelError.self) {
            _ = try MistralConfig.read(Data(#"{"vocab_size": null}"#.utf8))
        }
        #expect(
            error?.description == "config.json: vocabSize: expected Int, found another type")
    }

    @Test func omittedKeysKeepTransformersDefaults() throws {
        let config = try LlamaConfig.read(Data(#"{"hidden_size": 64, "head_dim": null}"#.utf8))
        #expect(config.decoder.hiddenSize == 64)
        #expect(config.decoder.numHiddenLayers == 32)
        #expect(config.decoder.keyValueHeads == 32)
        #expect(config.decoder.headSize == 2)
        #expect(config.decoder.ropeTheta == 10_000)
    }

    @Test func parameterPathsAreHuggingFaces() throws {
        let source = ShapeSource()
        let config = #"{"model_type": "llama", "num_hidden_layers": 1, "vocab_size": 10}"#
        _ = try ModelRegistry.makeModel(
            config: Data(config.utf8), Scope(registry: ModuleRegistry(), source: source))
        let layer = "model.layers.0"
        #expect(
            Set(source.shapes.keys) == [
                "model.embed_tokens.weight", "model.norm.weight", "lm_head.weight",
                "\(layer).input_layernorm.weight", "\(layer).post_attention_layernorm.weight",
                "\(layer).self_attn.q_proj.weight", "\(layer).self_attn.k_proj.weight",
                "\(layer).self_attn.v_proj.weight", "\(layer).self_attn.o_proj.weight",
                "\(layer).mlp.gate_proj.weight", "\(layer).mlp.up_proj.weight",
                "\(layer).mlp.down_proj.weight",
            ])
        #expect(source.shapes["model.layers.0.mlp.down_proj.weight"] == [4096, 11_008])
    }
}
