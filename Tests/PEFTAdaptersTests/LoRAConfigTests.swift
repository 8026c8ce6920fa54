import Foundation
import PEFTAdapters
import Testing

@Suite struct LoRAConfigTests {
    @Test func everyFixtureIsRead() {
        #expect(Fixtures.linears.count == 3)
        #expect(Fixtures.targetCases.count >= 40)
        #expect(Fixtures.layerCases.count == 6)
        #expect(Fixtures.tensorNames.count == 2)
    }

    @Test(arguments: Fixtures.configs)
    func rewritesPEFTsFileByteForByte(name: String) throws {
        let data = try Fixtures.config(name)
        let config = try LoRAConfig(adapterConfigJSON: data)
        #expect(
            String(decoding: config.adapterConfigJSON(), as: UTF8.self)
                == String(decoding: data, as: UTF8.self))
    }

    @Test func defaultsAreThoseOfPEFT() throws {
        let read = try LoRAConfig(adapterConfigJSON: Fixtures.config("default"))
        #expect(read == LoRAConfig())
    }

    @Test func readsEveryOption() throws {
        let config = try LoRAConfig(adapterConfigJSON: Fixtures.config("patterns"))
        var expected = LoRAConfig(targetModules: ["q_proj"])
        expected.excludeModules = ["a", "b"]
        expected.layersToTransform = [3, 1, 2]
        expected.layersPattern = ["layers", "h"]
        expected.rankPattern = ["q_proj": 4, #"^a\.b"#: 2]
        expected.alphaPattern = ["q_proj": 12.5, "v": 3]
        #expect(config == expected)

        let single = try LoRAConfig(adapterConfigJSON: Fixtures.config("single-values"))
        #expect(single.layersToTransform == .one(7))
        #expect(single.layersPattern == .one("layers"))
        #expect(single.initLoraWeights == .gaussian)
        #expect(single.loraAlpha == 0.1)

        let other = try LoRAConfig(adapterConfigJSON: Fixtures.config("no-initialization"))
        #expect(other.targetModules == .allLinear)
        #expect(other.initLoraWeights == .random)

        let regex = try LoRAConfig(adapterConfigJSON: Fixtures.config("regex"))
        #expect(regex.targetModules == .regex(#".*\.(q|v)_proj"#))
        #expect(regex.useRslora)
    }

    @Test func codableIsTheSameForm() throws {
        let config = try LoRAConfig(adapterConfigJSON: Fixtures.config("common"))
        let data = try JSONEncoder().encode(config)
        #expect(try JSONDecoder().decode(LoRAConfig.self, from: data) == config)
    }

    @Test func namesAreWrittenSortedAndOnce() {
        let config = LoRAConfig(targetModules: ["v_proj", "q_proj", "v_proj"])
        #expect(config.coding("target_modules") == .array([.string("q_proj"), .string("v_proj")]))
    }

    @Test func methodTableFindsLoRA() throws {
        let config = try AdapterMethods.readConfig(adapterConfigJSON: Fixtures.config("common"))
        #expect((config as? LoRAConfig)?.r == 16)
    }

    @Test func inertKeysOfOtherVersionsAreRead() throws {
        let text = """
            {"peft_type": "LORA", "target_modules": ["q"], "use_new_thing": false, "new_config": {"a": [null]},
             "modules_to_save": [], "bias": "none", "runtime_config": {"ephemeral_gpu_offload": true}, "rank_pattern": null}
            """
        let config = try LoRAConfig(adapterConfigJSON: Data(text.utf8))
        #expect(config == LoRAConfig(targetModules: ["q"]))
    }

    @Test(arguments: [
        (
            #"{"r": "8", "lora_alpha": true, "use_qalora": true, "lora_alhpa": 3, "use_new_thing": 7}"#,
            """
            The adapter configuration is not usable:
            - r: expected a whole number, found "8"
            - lora_alpha: expected a number, found true
            - lora_alhpa: unknown key, with the value 3; did you mean lora_alpha?
            - use_new_thing: unknown key, with the value 7; a later PEFT may define it: remove it if the adapter works \
            without
            - use_qalora: true is not supported, only false; set that, or merge this adapter into its base model with \
            PEFT and start from there
            """
        ),
        (
            #"{"init_lora_weights": "mica", "loftq_config": {"loftq_bits": 8}, "bias": "some", "modules_to_save": "lm_head", "velora_config": {"a": 1}}"#,
            """
            The adapter configuration is not usable:
            - init_lora_weights: expected true, false, "gaussian", "orthogonal", "pissa", "pissa_niter_N", "olora", "loftq", \
            "eva", "corda" or "lora_ga", found "mica"
            - loftq_config: expected {} or {"loftq_bits": 4, "loftq_iter": a whole number of at least 1}, found \
            {"loftq_bits": 8}
            - bias: expected one of "none", "all", "lora_only", found "some"
            - modules_to_save: expected a list, each entry text, or null, found "lm_head"
            - velora_config: {"a": 1} is not supported, only null; set that, or merge this adapter into its base \
            model with PEFT and start from there
            """
        ),
        (
            #"{"peft_type": "IA3", "target_modules": [1], "layers_to_transform": "a", "rank_pattern": {"q": 1.5}}"#,
            """
            The adapter configuration is not usable:
            - peft_type: expected "LORA", found "IA3"
            - target_modules: expected text or a list, each entry text, or null, found [1]
            - layers_to_transform: expected a whole number or a list of such, or null, found "a"
            - rank_pattern: expected an object, each value a whole number, found {"q": 1.5}
            """
        ),
        ("[1]", "The adapter configuration is not usable:\n- expected an object, found [1]"),
    ])
    func readingReportsEveryProblem(text: String, message: String) {
        let error = #expect(throws: AdapterError.self) {
            try LoRAConfig(adapterConfigJSON: Data(text.utf8))
        }
        #expect(error?.description == message)
    }

    @Test func brokenJSONNamesThePlace() {
        let error = #expect(throws: AdapterError.self) {
            try LoRAConfig(adapterConfigJSON: Data("{\"r\": 8,\n oops}".utf8))
        }
        #expect(
            error?.description == """
                The adapter configuration is not usable:
                - not valid JSON: Invalid value around character 10.
                """)
    }

    @Test(arguments: [
        (
            #"{"peft_type": "XLORA"}"#,
            "The adapter configuration is not usable:\n- peft_type: XLORA is not supported, only LORA"
        ),
        (
            #"{"model_type": "llama"}"#,
            """
            The adapter configuration is not usable:
            - peft_type: expected the name of a method, found none; is this an adapter_config.json?
            """
        ),
    ])
    func methodTableRefusesOthers(text: String, message: String) {
        let error = #expect(throws: AdapterError.self) {
            try AdapterMethods.readConfig(adapterConfigJSON: Data(text.utf8))
        }
        #expect(error?.description == message)
    }

    @Test func validationReportsEveryProblem() {
        var config = LoRAConfig(r: 0, loraAlpha: .infinity, loraDropout: 1, targetModules: [])
        config.rankPattern = ["q": -1, "(k": 3]
        config.alphaPattern = ["q": 0]
        config.taskType = "CASUAL_LM"
        config.excludeModules = .allLinear
        config.layersPattern = ["layers"]
        let error = #expect(throws: AdapterError.self) { try config.validate() }
        #expect(
            error?.description == """
                The adapter configuration is not usable:
                - r: expected a whole number of at least 1, found 0
                - lora_alpha: expected a finite number other than 0, found inf
                - lora_dropout: expected a probability in [0, 1), found 1.0
                - rank_pattern["q"]: expected a whole number of at least 1, found -1
                - alpha_pattern["q"]: expected a finite number other than 0, found 0.0
                - task_type: expected one of SEQ_CLS, SEQ_2_SEQ_LM, CAUSAL_LM, TOKEN_CLS, QUESTION_ANS, \
                FEATURE_EXTRACTION, found "CASUAL_LM"
                - target_modules: expected names of linear layers, a regular expression or "all-linear", found []
                - exclude_modules: expected names or a regular expression, found "all-linear"
                - layers_pattern: cannot be combined with an empty layers_to_transform; give the layers' indices, or \
                remove it
                - rank_pattern: "(k" is not a valid regular expression: expected ')'
                """)
    }

    @Test func regularExpressionExcludesLayers() {
        var config = LoRAConfig(targetModules: .regex(#"(?<=\.)q"#))
        config.layersToTransform = .one(1)
        config.layersPattern = .one("layers")
        let error = #expect(throws: AdapterError.self) { try config.validate() }
        #expect(
            error?.description
                == #"""
                The adapter configuration is not usable:
                - layers_to_transform: cannot be combined with a regular expression in target_modules; name the layers' \
                indices in the expression, or give a list
                - layers_pattern: cannot be combined with a regular expression in target_modules; name the layers' indices \
                in the expression, or give a list
                - target_modules: "(?<=\.)q" is not a valid regular expression: lookbehind is not currently supported
                """#.replacing("\\\n", with: ""))
    }

    @Test func unsetTargetsAreRefused() {
        let error = #expect(throws: AdapterError.self) { try LoRAConfig().validate() }
        #expect(
            error?.description == """
                The adapter configuration is not usable:
                - target_modules: expected names of linear layers, a regular expression or "all-linear", found null
                """)
    }
}
