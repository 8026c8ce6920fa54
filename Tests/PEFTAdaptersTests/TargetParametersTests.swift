import PEFTAdapters
import PEFTLayers
import Testing
import Torch

/// Which parameters of a mixture of experts a configuration names; what PEFT makes of it is tested beside the model families.
@Suite struct TargetParametersTests {
    private static func makeRegistry() throws -> ModuleRegistry {
        let registry = ModuleRegistry()
        let scope = Scope(registry: registry, source: RandomSource(seed: 1))
        for layer in 0..<2 {
            let block = scope / "model" / "layers" / layer
            _ = try (block / "self_attn").linear("q_proj", inFeatures: 4, outFeatures: 4)
            let mlp = block / "mlp"
            _ = try mlp.router("gate", inFeatures: 4, numExperts: 3, moduleNames: ["gate"])
            let experts = mlp / "experts"
            _ = try experts.experts(
                "gate_up_proj", numExperts: 3, inFeatures: 4, outFeatures: 6,
                moduleNames: ["gate_proj", "up_proj"])
            _ = try experts.experts(
                "down_proj", numExperts: 3, inFeatures: 3, outFeatures: 4,
                moduleNames: ["down_proj"])
        }
        _ = try scope.head("lm_head", tiedTo: nil, shape: [6, 4])
        return registry
    }

    private func attach(_ edit: (inout LoRAConfig) -> Void) throws -> AdapterSet {
        var config = LoRAConfig()
        config.r = 2
        config.loraAlpha = 3
        edit(&config)
        return try config.attach(to: Self.makeRegistry(), seed: 0)
    }

    private func error(_ edit: (inout LoRAConfig) -> Void) throws -> String {
        let error = #expect(throws: AdapterError.self) { _ = try attach(edit) }
        return try #require(error).description
    }

    @Test func theLastParameterOfAModuleIsOutermost() throws {
        let both = try attach {
            $0.targetParameters = ["experts.down_proj", "experts.gate_up_proj"]
        }
        let prefix = "base_model.model.model.layers.0.mlp.experts"
        #expect(
            both.tensorShapes.filter { $0.key.contains("layers.0.") } == [
                "\(prefix).base_layer.lora_A.weight": [6, 4],
                "\(prefix).base_layer.lora_B.weight": [6, 6],
                "\(prefix).lora_A.weight": [6, 3], "\(prefix).lora_B.weight": [4, 6],
            ])
        let one = try attach { $0.targetParameters = ["model.layers.0.mlp.experts.gate_up_proj"] }
        #expect(
            one.tensorShapes == [
                "\(prefix).lora_A.weight": [6, 4], "\(prefix).lora_B.weight": [6, 6],
            ])
    }

    @Test func weightsOfLinearsAreParametersToo() throws {
        let adapters = try attach { $0.targetParameters = ["q_proj.weight", "gate.weight"] }
        let names = Set(adapters.tensorShapes.keys.filter { $0.contains("layers.1.") })
        #expect(
            names == [
                "base_model.model.model.layers.1.self_attn.q_proj.lora_A.weight",
                "base_model.model.model.layers.1.self_attn.q_proj.lora_B.weight",
                "base_model.model.model.layers.1.mlp.gate.lora_A.weight",
                "base_model.model.model.layers.1.mlp.gate.lora_B.weight",
            ])
    }

    @Test func allLinearAdaptsAllExperts() throws {
        let adapters = try attach { $0.targetModules = .allLinear }
        let config = try #require(adapters.config as? LoRAConfig)
        #expect(config.targetModules == .names(["q_proj"]))
        #expect(
            Set(config.targetParameters ?? []) == ["down_proj", "gate.weight", "gate_up_proj"])
        #expect(config.rankPattern == [#".*\.gate_up_proj"#: 4])
        #expect(config.alphaPattern == [#".*\.gate_up_proj"#: 6])
        #expect(adapters.adapters.count == 8)
    }

    @Test func partOfAParameterIsRefused() throws {
        #expect(
            try error { $0.targetModules = ["q_proj", "up_proj"] } == """
                The adapter configuration is not usable:
                - target_modules: cannot be combined with experts whose weights are one parameter, gate_up_proj; name gate_proj \
                beside up_proj, or none of them
                """)
    }

    @Test func expressionsThatNameExpertsAreRefused() throws {
        #expect(
            try error { $0.targetModules = .regex(#".*(q|up)_proj"#) } == """
                The adapter configuration is not usable:
                - target_modules: cannot be combined with the parameter model.layers.0.mlp.experts.gate_up_proj; the expression \
                matches model.layers.0.mlp.experts.up_proj, which is a part of it: give names, or the parameter in \
                target_parameters
                """)
        #expect(try attach { $0.targetModules = .regex(#".*\.q_proj"#) }.adapters.count == 2)
    }

    @Test func optionsThatPEFTHasNotForParametersAreRefused() throws {
        let text = try error {
            $0.targetParameters = ["down_proj"]
            $0.loraDropout = 0.1
            $0.fanInFanOut = true
            $0.layersToTransform = [0]
        }
        #expect(
            text == """
                The adapter configuration is not usable:
                - lora_dropout: cannot be combined with adapters of parameters (target_parameters); PEFT has none either: set it to 0
                - fan_in_fan_out: cannot be combined with adapters of parameters (target_parameters); PEFT has none either: set it \
                to false
                - layers_to_transform: cannot be combined with adapters of parameters (target_parameters); PEFT adapts them in all \
                layers: give their whole paths instead
                """)
        let variants = try error {
            $0.targetModules = .allLinear
            $0.loraDropout = 0.1
            $0.useDora = true
            $0.initLoraWeights = .orthogonal
        }
        for option in ["lora_dropout", "use_dora", "init_lora_weights"] {
            #expect(variants.contains("\(option): cannot be combined with adapters of parameters"))
        }
        let biased = try error {
            $0.targetModules = .allLinear
            $0.loraBias = true
        }
        #expect(biased.contains("lora_bias: cannot be combined with adapters of parameters"))
    }

    @Test func unknownParametersAreNamedWithTheNearest() throws {
        #expect(
            try error { $0.targetParameters = ["experts.gate_up_prj", "down_proj"] } == """
                The adapter configuration does not fit the model:
                - target_parameters "experts.gate_up_prj": matches no weight of a linear layer; the nearest parameter is \
                "experts.gate_up_proj"
                Correct or remove each: it would be without effect, silently.
                """)
    }

    @Test func aLayerIsNotAdaptedTwice() throws {
        let error = #expect(throws: AdapterError.self) {
            _ = try attach {
                $0.targetModules = ["q_proj"]
                $0.targetParameters = ["q_proj.weight"]
            }
        }
        #expect(
            error
                == .alreadyAdapted([
                    "model.layers.0.self_attn.q_proj", "model.layers.1.self_attn.q_proj",
                ]))
    }
}
