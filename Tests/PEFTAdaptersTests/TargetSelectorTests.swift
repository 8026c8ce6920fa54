import PEFTAdapters
import Testing

@Suite struct TargetSelectorTests {
    /// Where PEFT goes on, silently or with a warning, though a part of the configuration is without effect.
    private static let refusedHere: Set = [
        "unknown name beside a known one", "exclusion without a match", "layer out of range",
        "key is not a suffix inside of a name", "key without a match",
    ]

    private static func modules(_ model: String) throws -> ModulePaths {
        ModulePaths(
            linears: try #require(Fixtures.linears[model]),
            outputHead: model == "llama" ? "lm_head" : nil)
    }

    @Test(arguments: Fixtures.targetCases)
    func choosesWhatPEFTChooses(_ fixture: Fixtures.TargetCase) throws {
        let modules = try Self.modules(fixture.model)
        if fixture.layers.isEmpty || Self.refusedHere.contains(fixture.name) {
            let error = #expect(throws: AdapterError.self) {
                try fixture.config.resolve(in: modules)
            }
            guard case .unmatched? = error else {
                Issue.record("\(String(describing: error))")
                return
            }
            return
        }
        let resolved = try fixture.config.resolve(in: modules)
        let layers = resolved.targets.map {
            Fixtures.TargetCase.Layer(
                path: $0.path, rank: $0.rank, alpha: $0.alpha, scaling: $0.scaling)
        }
        #expect(layers == fixture.layers)
        #expect(resolved.config.coding("target_modules") == fixture.targetModules)
        if fixture.config.excludeModules == nil {
            #expect(resolved.matches.allSatisfy { $0.numMatches > 0 })
        }
    }

    @Test func writtenConfigurationChoosesTheSame() throws {
        let modules = try Self.modules("llama")
        var config = LoRAConfig(targetModules: .allLinear)
        config.layersToTransform = [1, 4]
        config.excludeModules = ["o_proj"]
        let first = try config.resolve(in: modules)
        let second = try LoRAConfig(adapterConfigJSON: first.config.adapterConfigJSON())
            .resolve(in: modules)
        #expect(first.targets.count == 12)
        #expect(second == first)
    }

    @Test func matchesAreCountedByPattern() throws {
        var config = LoRAConfig(targetModules: ["q_proj", "mlp.up_proj", "lm_head"])
        config.excludeModules = ["layers.0.mlp.up_proj"]
        config.layersToTransform = [0, 1]
        config.rankPattern = ["up_proj": 2]
        let matches = try config.resolve(in: Self.modules("llama")).matches
        #expect(
            matches.map { "\($0.option) \($0.pattern) \($0.numMatches)" } == [
                "exclude_modules layers.0.mlp.up_proj 1", "target_modules q_proj 2",
                "target_modules mlp.up_proj 1", "target_modules lm_head 1",
                "layers_to_transform 0 1", "layers_to_transform 1 2", "rank_pattern up_proj 1",
            ])
    }

    @Test func everyPatternWithoutAMatchIsNamed() throws {
        var config = LoRAConfig(targetModules: ["q_prj", "self_attn.up_proj", "k_proj", "v_proj"])
        config.excludeModules = ["lm_haed", "v_proj"]
        config.layersToTransform = [2, 12, -1]
        let modules = try Self.modules("llama")
        let error = #expect(throws: AdapterError.self) { try config.resolve(in: modules) }
        #expect(
            error?.description == """
                The adapter configuration does not fit the model:
                - exclude_modules "lm_haed": matches no linear layer; the nearest name is "lm_head"
                - target_modules "q_prj": matches no linear layer; the nearest name is "q_proj"
                - target_modules "self_attn.up_proj": matches no linear layer; the nearest name is "self_attn.k_proj"
                - layers_to_transform "12": no targeted linear layer has this index; they are 0 to 11
                - layers_to_transform "-1": no targeted linear layer has this index; they are 0 to 11
                Correct or remove each: it would be without effect, silently.
                """)
    }

    @Test(arguments: [TargetModules.names(["q_proj", "v_proj"]), .regex(".*(q|v)_proj")])
    func excludingEverythingIsAnError(targets: TargetModules) throws {
        var config = LoRAConfig(targetModules: targets)
        config.excludeModules = ["self_attn.q_proj", "v_proj"]
        let modules = try Self.modules("llama")
        let error = #expect(throws: AdapterError.self) { try config.resolve(in: modules) }
        guard case .unmatched(let patterns) = error else {
            Issue.record("\(String(describing: error))")
            return
        }
        #expect(patterns.allSatisfy { $0.reason == .excluded })
        #expect(
            patterns.first?.description.hasSuffix(
                ": all that it matches is excluded by exclude_modules") == true)
    }

    @Test func allLinearTakesWhatTheChosenLayersHave() throws {
        // Only the first layer has a "y": with all-linear that is no slip.
        let modules = ModulePaths(linears: ["m.n.0.x", "m.n.0.y", "m.n.1.x"], outputHead: nil)
        var config = LoRAConfig(targetModules: .allLinear)
        config.layersToTransform = .one(1)
        let resolved = try config.resolve(in: modules)
        #expect(resolved.targets.map(\.path) == ["m.n.1.x"])
        #expect(resolved.config.targetModules == ["x"])
    }

    @Test func regularExpressionWithoutAMatchNamesTheNearestPath() throws {
        let config = LoRAConfig(targetModules: .regex(#"model\.layers\.3\.self_attn\.q_prj"#))
        let modules = try Self.modules("llama")
        let error = #expect(throws: AdapterError.self) { try config.resolve(in: modules) }
        #expect(
            error?.description == #"""
                The adapter configuration does not fit the model:
                - target_modules "model\.layers\.3\.self_attn\.q_prj": matches no linear layer; \#
                the nearest name is "model.layers.3.self_attn.q_proj"
                Correct or remove each: it would be without effect, silently.
                """#)
    }

    @Test func rankAndAlphaKeysWithoutEffectAreNamed() throws {
        var config = LoRAConfig(targetModules: ["q_proj"])
        config.rankPattern = ["k_proj": 4, "q_poj": 2, ".*_proj": 3, "q_proj": 5]
        config.alphaPattern = [#"layers\.77\.self_attn\.q_proj"#: 4]
        let modules = try Self.modules("llama")
        let error = #expect(throws: AdapterError.self) { try config.resolve(in: modules) }
        #expect(
            error?.description == #"""
                The adapter configuration does not fit the model:
                - rank_pattern "k_proj": matches only linear layers without an adapter, such as \#
                "model.layers.0.self_attn.k_proj"
                - rank_pattern "q_poj": matches no linear layer; the nearest name is "q_proj"
                - rank_pattern "q_proj": ".*_proj" comes first in all that it matches
                - alpha_pattern "layers\.77\.self_attn\.q_proj": matches no linear layer; the nearest name is \#
                "layers.7.self_attn.q_proj"
                Correct or remove each: it would be without effect, silently.
                """#)
    }

    @Test func layersWithoutATargetAreNamed() throws {
        var config = LoRAConfig(targetModules: ["q", "router"])
        config.layersToTransform = [1]
        config.layersPattern = ["h", "layer"]
        let modules = try Self.modules("mixed")
        let pattern = #expect(throws: AdapterError.self) { try config.resolve(in: modules) }
        #expect(
            pattern?.description == """
                The adapter configuration does not fit the model:
                - layers_pattern "layer": matches no linear layer; the nearest name is "layers"
                Correct or remove each: it would be without effect, silently.
                """)
        config.layersPattern = ["h"]
        let target = #expect(throws: AdapterError.self) { try config.resolve(in: modules) }
        #expect(
            target?.description == """
                The adapter configuration does not fit the model:
                - target_modules "router": all that it matches is outside of layers_to_transform
                Correct or remove each: it would be without effect, silently.
                """)
    }

    @Test func modelWithoutLinearLayers() {
        let config = LoRAConfig(targetModules: ["q_proj"])
        let error = #expect(throws: AdapterError.self) {
            try config.resolve(in: ModulePaths(linears: []))
        }
        #expect(
            error?.description == """
                The adapter configuration does not fit the model:
                - target_modules "q_proj": matches no linear layer; the model has none
                Correct or remove each: it would be without effect, silently.
                """)
    }

    @Test func allLinearWithoutAnyIsAnError() {
        let config = LoRAConfig(targetModules: .allLinear)
        let error = #expect(throws: AdapterError.self) {
            try config.resolve(in: ModulePaths(linears: ["lm_head"]))
        }
        #expect(
            error?.description == """
                The adapter configuration does not fit the model:
                - target_modules "all-linear": the model has no linear layer besides its output head
                Correct or remove each: it would be without effect, silently.
                """)
    }

    @Test func allLinearNamesTellLinearsFromOtherModules() {
        // "a.x" is a linear and "b.x" is a module of another kind, with a parameter.
        let modules = ModulePaths(
            linears: ["n.0.a.x", "n.1.a.x", "n.0.y", "head"], outputHead: "head",
            parameters: ["n.0.b.x.weight"])
        #expect(modules.allLinearNames == ["a.x", "y"])
    }

    @Test func nearestNameIsStable() {
        let names = ["v_proj", "q_proj", "k_proj"]
        #expect(NearestName.anyway(of: "q_prj", in: names) == "q_proj")
        #expect(NearestName.anyway(of: "x", in: ["b", "a"]) == "a")
        #expect(NearestName.anyway(of: "q", in: [] as [String]) == nil)
    }
}
