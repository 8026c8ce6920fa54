import Foundation
import PEFTAdapters
import PEFTLayers
import Testing
import Torch

/// Starts, combinations and layers that the options of LoRA allow or refuse.
@Suite struct LoRAVariantTests {
    /// An embedding, one block, a norm with bias, and a head, tied or not.
    private func makeModel(isTied: Bool = false) throws -> ModuleRegistry {
        let registry = ModuleRegistry()
        let scope = Scope(registry: registry, source: RandomSource(seed: 1))
        let embedding = try Embedding(
            vocabularySize: 6, hiddenSize: 4, scope / "model" / "embed_tokens")
        let block = scope / "model" / "layers" / 0
        _ = try block.linear("q_proj", inFeatures: 4, outFeatures: 4, bias: true)
        _ = try block.linear("up_proj", inFeatures: 4, outFeatures: 6)
        _ = try LayerNorm(hiddenSize: 4, epsilon: 1e-5, scope / "model" / "norm")
        _ = try scope.head("lm_head", tiedTo: isTied ? embedding.weight : nil, shape: [6, 4])
        return registry
    }

    private func message(
        isTied: Bool = false, _ change: (inout LoRAConfig) -> Void
    ) throws -> String? {
        var config = LoRAConfig(targetModules: ["q_proj"])
        change(&config)
        let registry = try makeModel(isTied: isTied)
        let error = #expect(throws: AdapterError.self) { try config.attach(to: registry, seed: 0) }
        #expect(registry.trainableParameters.isEmpty, "something was attached")
        return error?.description
    }

    private func unusable(_ line: String) -> String {
        "The adapter configuration is not usable:\n- " + line
    }

    private func misfit(_ line: String) -> String {
        "The adapter configuration does not fit the model:\n- \(line)\n"
            + "Correct or remove each: it would be without effect, silently."
    }

    // MARK: - What is refused

    @Test func combinationsThatPEFTRefusesAreRefused() throws {
        #expect(
            try message {
                $0.loraBias = true
                $0.useDora = true
            } == unusable("lora_bias: cannot be combined with use_dora; set one of them to false"))
        #expect(
            try message {
                $0.loraBias = true
                $0.initLoraWeights = .gaussian
            }
                == unusable(
                    "lora_bias: cannot be combined with init_lora_weights \"gaussian\"; set "
                        + "init_lora_weights to true"))
        #expect(
            try message {
                $0.loraBias = true
                $0.targetModules = ["embed_tokens"]
            }
                == unusable(
                    "lora_bias: model.embed_tokens is an embedding, whose LoRA has no bias; leave it out "
                        + "of target_modules, or set lora_bias to false"))
        #expect(
            try message {
                $0.initLoraWeights = .orthogonal
                $0.r = 3
            }
                == unusable(
                    "r: expected an even number, with init_lora_weights \"orthogonal\", found 3"))
    }

    @Test func aLayerHasOnePart() throws {
        let twice =
            "has an adapter of target_modules or trainable_token_indices; name it in one of the options only"
        #expect(
            try message {
                $0.targetModules = ["embed_tokens"]
                $0.trainableTokenIndices = .embedding([1])
            } == unusable("trainable_token_indices: model.embed_tokens \(twice)"))
        #expect(
            try message {
                $0.modulesToSave = ["embed_tokens"]
                $0.trainableTokenIndices = .embedding([1])
            } == unusable("modules_to_save: model.embed_tokens \(twice)"))
        // A name that only ends like the layer's: target_modules does not leave it out.
        #expect(
            try message { $0.modulesToSave = ["proj"] }
                == unusable("modules_to_save: model.layers.0.q_proj \(twice)"))
        #expect(
            try message(isTied: true) {
                $0.targetModules = ["lm_head"]
                $0.trainableTokenIndices = .embedding([1])
            } == unusable("trainable_token_indices: lm_head \(twice)"))
    }

    @Test func whatTheModelHasNotIsRefused() throws {
        #expect(
            try message { $0.modulesToSave = ["norm", "score"] }
                == misfit(
                    "modules_to_save \"score\": no module's path ends with it; the nearest name is \"norm\""
                ))
        #expect(
            try message {
                $0.targetModules = ["up_proj"]
                $0.bias = .loraOnly
            } == misfit("bias \"lora_only\": none of the layers has a bias"))
        #expect(
            try message {
                $0.trainableTokenIndices = .embedding([5, 6])
            } == unusable("trainable_token_indices: expected tokens below 6, found 6"))
        #expect(
            try message {
                $0.trainableTokenIndices = .layers(["wte": [1]])
            }
                == misfit(
                    "trainable_token_indices \"wte\": no module's path ends with it; the nearest name is "
                        + "\"lm_head\""))
        let untied = misfit(
            "ensure_weight_tying \"true\": the model's head has a weight of its own")
        #expect(
            try message {
                $0.modulesToSave = ["lm_head"]
                $0.ensureWeightTying = true
            } == untied)
        #expect(
            try message {
                $0.trainableTokenIndices = .embedding([1])
                $0.ensureWeightTying = true
            } == untied)
        #expect(
            try message(isTied: true) { $0.ensureWeightTying = true }
                == unusable(
                    "ensure_weight_tying: cannot be combined with a head and an embedding that stay frozen; "
                        + "train one of them by modules_to_save or trainable_token_indices"))
    }

    @Test(arguments: [[], [1, 1], [-1]])
    func tokensThatAreNoneAreRefused(tokens: [Int]) {
        var config = LoRAConfig(targetModules: ["q_proj"])
        config.trainableTokenIndices = .embedding(tokens)
        let error = #expect(throws: AdapterError.self) { try config.validate() }
        let found = "[" + tokens.map(String.init).joined(separator: ", ") + "]"
        #expect(
            error?.description
                == unusable(
                    "trainable_token_indices: expected at least one token, each of 0 or above and given "
                        + "once, found \(found)"))
    }

    // MARK: - What is trained

    @Test func modulesAreLeftOutOfTheTargets() throws {
        var config = LoRAConfig(targetModules: .allLinear)
        config.modulesToSave = ["q_proj", "norm"]
        let registry = try makeModel()
        let adapter = try config.attach(to: registry, seed: 0)
        let prefix = "base_model.model.model."
        #expect(
            Set(adapter.parameters.map(\.path)) == [
                prefix + "layers.0.up_proj.lora_A.weight",
                prefix + "layers.0.up_proj.lora_B.weight",
                prefix + "layers.0.q_proj.weight", prefix + "layers.0.q_proj.bias",
                prefix + "norm.weight", prefix + "norm.bias",
            ])
        #expect(adapter.numAdaptedLinears == 1)
        #expect(
            Set(registry.frozenParameters.map(\.path)) == [
                "model.embed_tokens.weight", "model.layers.0.up_proj.weight", "lm_head.weight",
            ])
    }

    @Test func aPassWithoutAdaptersHasTheBasesOwnTensors() throws {
        var config = LoRAConfig(targetModules: ["up_proj"])
        config.modulesToSave = ["q_proj"]
        let registry = try makeModel()
        let linear = try #require(registry.linears.first)
        let input = try Tensor.normal([3, 4], generator: Generator(seed: 1))
        let before = try linear(input, context: .segment(3))
        let adapter = try config.attach(to: registry, seed: 0)
        #expect(try adapter.changesNothing())
        try withoutGrad {
            for (_, part) in adapter.adapters where part is TrainedTensor {
                try part.parameters[0].value.fillInPlace(0.5)
            }
        }
        #expect(try !adapter.changesNothing())
        #expect(try !linear(input, context: .segment(3)).isEqual(to: before))
        let plain = try Parameter.withOriginals(true) { () throws(TorchError) in
            try linear(input, context: .segment(3))
        }
        #expect(try plain.isEqual(to: before))
    }

    @Test(arguments: [2, 4, 12])
    func theOrthogonalStartIsNoChange(rank: Int) throws {
        let lora = try LoRA(
            target: LoRATarget(path: "layer", rank: rank, alpha: 8), inFeatures: 40,
            outFeatures: 30, initialization: .orthogonal, seed: 3)
        let (valueA, valueB) = (try lora.loraA.value.detach(), try lora.loraB.value.detach())
        #expect(try lora.delta().abs().max().item() < 1e-5)
        // Elements of both have the variance of (r / 2) / r products of normal numbers, over 100.
        for values in [try valueA.floats(), try valueB.floats()] {
            let variance = values.reduce(0) { $0 + $1 * $1 } / Float(values.count)
            #expect(variance > 0.0025 && variance < 0.0075)
        }
    }

    @Test func theBiasOfAnUpdateStartsAsItsMatricesDo() throws {
        func bias(_ initialization: LoRAInitialization) throws -> [Float] {
            var config = LoRAConfig(r: 4, targetModules: ["q_proj"])
            config.loraBias = true
            config.initLoraWeights = initialization
            let adapter = try config.attach(to: makeModel(), seed: 0)
            let path = "base_model.model.model.layers.0.q_proj.lora_B.bias"
            return try #require(adapter.parameters.first { $0.path == path }).value.floats()
        }
        #expect(try bias(.kaimingUniform) == [0, 0, 0, 0])
        let random = try bias(.random)
        #expect(random.allSatisfy { $0 != 0 && $0.magnitude <= 0.5 })
    }
}
