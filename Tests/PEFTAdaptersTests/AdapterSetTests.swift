import PEFTAdapters
import PEFTLayers
import Testing
import Torch

@Suite struct AdapterSetTests {
    @Test(arguments: Fixtures.tensorNames)
    func namesAndShapesAreThoseOfPEFT(_ fixture: Fixtures.TensorNames) throws {
        let adapters = try fixture.config.attach(to: TinyModel().registry, seed: 0)
        let all = adapters.tensorShapes.merging(adapters.frozenCopies) { shape, _ in shape }
        #expect(all == fixture.shapes)
    }

    @Test func parametersAreInTheModelsOrder() throws {
        let model = try TinyModel()
        let config = LoRAConfig(r: 2, targetModules: ["down_proj", "q_proj"])
        let adapters = try config.attach(to: model.registry, seed: 0)
        #expect(
            adapters.parameters.map(\.path) == [
                "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight",
                "base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight",
                "base_model.model.model.layers.0.mlp.down_proj.lora_A.weight",
                "base_model.model.model.layers.0.mlp.down_proj.lora_B.weight",
                "base_model.model.model.layers.1.self_attn.q_proj.lora_A.weight",
                "base_model.model.model.layers.1.self_attn.q_proj.lora_B.weight",
                "base_model.model.model.layers.1.mlp.down_proj.lora_A.weight",
                "base_model.model.model.layers.1.mlp.down_proj.lora_B.weight",
            ])
        #expect(
            model.registry.trainableParameters.map(\.path) == adapters.parameters.map(\.path))
    }

    @Test func configurationIsAsWritten() throws {
        let config = LoRAConfig(targetModules: .allLinear)
        let adapters = try config.attach(to: TinyModel().registry, seed: 0)
        let written = try #require(adapters.config as? LoRAConfig)
        #expect(written.inferenceMode)
        #expect(
            written.targetModules
                == .names([
                    "down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj",
                ]))
        #expect(
            adapters.matches.first
                == PatternMatch(
                    option: "target_modules", pattern: "down_proj", numMatches: 2))
    }

    @Test func startDependsOnSeedAndPathAlone() throws {
        func start(_ targets: TargetModules, seed: UInt64) throws -> [String: [Float]] {
            let config = LoRAConfig(r: 2, targetModules: targets)
            let adapters = try config.attach(to: TinyModel().registry, seed: seed)
            var values: [String: [Float]] = [:]
            for parameter in adapters.parameters where parameter.path.contains("lora_A") {
                values[parameter.path] = try parameter.value.floats()
            }
            return values
        }
        let all = try start(.allLinear, seed: 7)
        let some = try start(["v_proj"], seed: 7)
        let other = try start(["v_proj"], seed: 8)
        #expect(some.count == 2)
        for (path, values) in some {
            #expect(all[path] == values)
            #expect(other[path] != values)
        }
        #expect(Set(all.values).count == all.count)
    }

    @Test func oneAdapterThatChangesSomethingIsEnough() throws {
        let config = LoRAConfig(r: 2, targetModules: ["q_proj", "v_proj"])
        let adapters = try config.attach(to: TinyModel().registry, seed: 1)
        #expect(try adapters.changesNothing())
        let last = try #require(adapters.parameters.last)
        try withoutGrad { try last.value.fillInPlace(1) }
        #expect(try !adapters.changesNothing())
    }

    @Test func loadedTensorsAreTaken() throws {
        let config = LoRAConfig(r: 2, targetModules: ["q_proj"])
        let source = try config.attach(to: TinyModel().registry, seed: 1)
        let target = try config.attach(to: TinyModel().registry, seed: 2)
        var tensors: [String: Tensor] = [:]
        for parameter in source.parameters {
            tensors[parameter.path] = try parameter.value.detach().to(.bfloat16)
        }
        try target.load(tensors)
        for (loaded, original) in zip(target.parameters, source.parameters) {
            let rounded = try original.value.detach().to(.bfloat16).floats()
            #expect(try loaded.value.floats() == rounded)
            #expect(loaded.value.dtype == .float32)
            #expect(loaded.value.requiresGrad)
        }
    }

    @Test func frozenCopiesAreAcceptedAndIgnored() throws {
        let config = LoRAConfig(r: 2, targetModules: ["lm_head"])
        let adapters = try config.attach(to: TinyModel().registry, seed: 1)
        var tensors: [String: Tensor] = [:]
        for (name, shape) in adapters.tensorShapes.merging(
            adapters.frozenCopies, uniquingKeysWith: { $1 })
        {
            tensors[name] = try Tensor.ones(shape)
        }
        try adapters.load(tensors)
        #expect(try adapters.parameters[0].value.floats().allSatisfy { $0 == 1 })
    }

    @Test func loadingReportsEveryDifferenceAndChangesNothing() throws {
        let config = LoRAConfig(r: 2, targetModules: ["q_proj"])
        let adapters = try config.attach(to: TinyModel().registry, seed: 1)
        let before = try adapters.parameters.map { parameter in try parameter.value.floats() }
        let prefix = "base_model.model.model.layers."
        let tensors = [
            prefix + "0.self_attn.q_proj.lora_A.weight": try Tensor.ones([2, 4]),
            prefix + "0.self_attn.q_proj.lora_B.weight": try Tensor.ones([2, 4]),
            prefix + "1.self_attn.q_proj.lora_A.weight": try Tensor.ones([2, 4], dtype: .uint8),
            prefix + "1.self_attn.k_proj.lora_B.weight": try Tensor.ones([4, 2]),
        ]
        let error = #expect(throws: AdapterError.self) { try adapters.load(tensors) }
        #expect(
            error?.description == """
                The tensors are not those of the adapter:
                - \(prefix)1.self_attn.q_proj.lora_B.weight: missing
                - \(prefix)1.self_attn.k_proj.lora_B.weight: unexpected
                - \(prefix)0.self_attn.q_proj.lora_B.weight: expected [4, 2], found float32[2, 4]
                - \(prefix)1.self_attn.q_proj.lora_A.weight: expected [2, 4], found uint8[2, 4]
                Is adapter_config.json the one that belongs to them, and the base model the right one?
                """)
        let after = try adapters.parameters.map { parameter in try parameter.value.floats() }
        #expect(after == before)
    }

    @Test func secondAdapterIsRefused() throws {
        let model = try TinyModel()
        _ = try LoRAConfig(targetModules: ["q_proj"]).attach(to: model.registry, seed: 0)
        let error = #expect(throws: AdapterError.self) {
            try LoRAConfig(targetModules: ["q_proj", "k_proj"]).attach(to: model.registry, seed: 0)
        }
        #expect(
            error?.description == """
                An adapter is attached already:
                - model.layers.0.self_attn.q_proj
                - model.layers.1.self_attn.q_proj
                Attach one adapter to a model; load the model again for another one.
                """)
        let adapted = model.registry.linears.filter { $0.adapter != nil }.map(\.path)
        #expect(adapted == ["model.layers.0.self_attn.q_proj", "model.layers.1.self_attn.q_proj"])
    }

    @Test func unusableConfigurationAttachesNothing() throws {
        let model = try TinyModel()
        #expect(throws: AdapterError.self) {
            try LoRAConfig(targetModules: ["q_proj", "x_proj"]).attach(to: model.registry, seed: 0)
        }
        #expect(model.registry.trainableParameters.isEmpty)
    }
}
