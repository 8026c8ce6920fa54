import Foundation
import PEFTAdapters
import PEFTCheckpoints
import PEFTLayers
import PEFTModels
import PEFTQuantization
import TestSupport
import Testing
import Torch

/// Adapters of mixtures of experts against PEFT, as `scripts/fixtures/experts.py` recorded it.
@Suite struct ExpertAdapterTests {
    static let cases = ["names", "all-linear", "parameters", "router", "nf4", "fp4"]

    /// What PEFT was asked for.
    private struct Asked: Decodable {
        struct Quantization: Decodable {
            let quantType: QuantType
            let compressStatistics: Bool
        }

        let base: String
        let options: LoRAConfig
        let quantization: Quantization?
    }

    /// A base with a new adapter of the options that PEFT was asked for.
    private struct Case {
        let folder: URL
        let asked: Asked
        let registry = ModuleRegistry()
        let model: any CausalLanguageModel
        let adapters: AdapterSet

        init(_ name: String, on device: Device = .cpu) throws {
            folder = Checkout.fixture("experts/\(name)")
            let data = try Data(contentsOf: folder.appending(path: "asked.json"))
            let decoder = JSONDecoder()
            let keys = try #require(
                JSONSerialization.jsonObject(with: data) as? [String: Any])
            let options = try JSONSerialization.data(withJSONObject: keys["options"] ?? [:])
            decoder.keyDecodingStrategy = .convertFromSnakeCase
            let quantization = try keys["quantization"].flatMap { value -> Asked.Quantization? in
                guard value is [String: Any] else { return nil }
                return try decoder.decode(
                    Asked.Quantization.self, from: JSONSerialization.data(withJSONObject: value))
            }
            asked = Asked(
                base: try #require(keys["base"] as? String),
                options: try LoRAConfig(adapterConfigJSON: options), quantization: quantization)
            let files = try BaseModelFiles.open(Checkout.fixture("models/\(asked.base)"))
            var source: any ParameterSource = files.source
            if let quantization {
                // As there, nothing but the experts.
                source = try QuantizingSource(
                    source,
                    config: QuantizationConfig(
                        quantType: quantization.quantType,
                        usesDoubleQuantization: quantization.compressStatistics),
                    skippedModules: ["self_attn", "lm_head"])
            }
            model = try ModelRegistry.makeModel(
                config: files.configuration, Scope(registry: registry, source: source))
            adapters = try asked.options.attach(to: registry, seed: 1)
        }

        var weights: SafetensorsFile {
            get throws { try SafetensorsFile(folder.appending(path: "adapter_model.safetensors")) }
        }

        func load() throws {
            let file = try weights
            try adapters.load(file.tensors(expected: adapters.tensorShapes))
        }
    }

    @Test func everyFixtureIsACase() throws {
        let folders = try FileManager.default.contentsOfDirectory(
            atPath: Checkout.fixture("experts").path)
        #expect(Set(folders) == Set(Self.cases))
    }

    @Test(arguments: cases)
    func namesShapesAndConfigurationAreThoseOfPEFT(name: String) throws {
        let made = try Case(name)
        let file = try made.weights
        let shapes = Dictionary(uniqueKeysWithValues: file.entries.map { ($0.name, $0.shape) })
        #expect(made.adapters.tensorShapes == shapes)
        var written = try #require(made.adapters.config as? LoRAConfig)
        written.baseModelNameOrPath = made.asked.base
        let theirs = try Data(contentsOf: made.folder.appending(path: "adapter_config.json"))
        #expect(try written.targetSets == LoRAConfig(adapterConfigJSON: theirs).targetSets)
    }

    /// PEFT's own configuration, already converted, gives the same adapter as the options that it was asked for.
    @Test(arguments: cases)
    func configurationOfPEFTIsUnderstood(name: String) throws {
        let made = try Case(name)
        let theirs = try Data(contentsOf: made.folder.appending(path: "adapter_config.json"))
        let again = ModuleRegistry()
        let files = try BaseModelFiles.open(Checkout.fixture("models/\(made.asked.base)"))
        _ = try ModelRegistry.makeModel(
            config: files.configuration, Scope(registry: again, source: files.source))
        let config = try LoRAConfig(adapterConfigJSON: theirs)
        let adapters = try config.attach(to: again, seed: 1)
        #expect(adapters.tensorShapes == made.adapters.tensorShapes)
    }

    @Test(arguments: cases, [false, true])
    func logitsAndGradientsEqualPEFT(name: String, isRecomputed: Bool) throws {
        let made = try Case(name)
        try made.load()
        let expected = try SafetensorsFile(made.folder.appending(path: "expected.safetensors"))
        func tensor(_ name: String) throws -> Tensor {
            try expected.tensor(try #require(expected.entry(name), "\(name)"))
        }
        let tokens = try tensor("tokens").int64s().map { Int32($0) }
        let context = ForwardContext(layout: SequenceLayout(segmentLengths: [tokens.count]))
        let execution: any BlockExecution =
            isRecomputed ? RecomputedExecution() : ResidentExecution()
        let logits = try withoutGrad {
            try made.model.logits(
                made.model.hiddenStates(
                    tensor("tokens"), context: context, execution: execution),
                context: context)
        }
        #expect(
            Tolerance.maxError(try logits.floats(), try tensor("logits").floats())
                <= Tolerance.logits)
        let losses = try made.model.losses(
            tokens: tokens, targets: tokens.dropFirst() + [-1], context: context,
            execution: execution)
        try losses.sum.backward()
        #expect(abs(try losses.sum.detach().item() - (try tensor("loss").item())) < 1e-3)
        for parameter in made.adapters.parameters {
            let found = try #require(parameter.value.grad, "\(parameter.path)").floats()
            let reference = try tensor("grad.\(parameter.path)").floats()
            #expect(
                Tolerance.relativeError(found, reference) <= Tolerance.gradient,
                "\(parameter.path)")
        }
    }

    /// Generation takes the layers' other path, token by token.
    @Test(arguments: cases)
    func generationWithCacheEqualsGenerationWithout(name: String) throws {
        let made = try Case(name)
        try made.load()
        func generated(usesCache: Bool) throws -> [Int] {
            try TokenGeneration(made.model, usesCache: usesCache).run(
                prompt: [3, 1, 4], maxNewTokens: 30, stopTokens: []
            ).tokens
        }
        #expect(try generated(usesCache: true) == generated(usesCache: false))
    }

    /// Experts' weights take the memory of their codes.
    @Test func quantizedExpertsAreTheirCodes() throws {
        let made = try Case("nf4")
        let experts = made.registry.linears.filter { $0.parameter?.numExperts != nil }
        #expect(experts.count == 4)
        for linear in experts {
            let count = linear.weight.outFeatures * linear.weight.inFeatures
            #expect(linear.weight.codes.map(\.numElements) == [count / 2])
            #expect(linear.weight.parameters.isEmpty)
        }
        let routers = made.registry.linears.filter {
            $0.parameter != nil && $0.parameter?.numExperts == nil
        }
        #expect(routers.allSatisfy { $0.weight is DenseWeight } && routers.count == 2)
    }
}

extension LoRAConfig {
    /// The options that decide what is adapted and how, lists as sets.
    fileprivate var targetSets: [String] {
        get throws {
            var config = self
            config.targetParameters = targetParameters.map { Set($0).sorted() } ?? []
            if case .names(let names)? = targetModules {
                config.targetModules = .names(Set(names).sorted())
            }
            return [
                "\(String(describing: config.targetModules))",
                "\(String(describing: config.targetParameters))", "\(r) \(loraAlpha) \(useRslora)",
                "\(rankPattern.sorted { $0.key < $1.key })",
                "\(alphaPattern.sorted { $0.key < $1.key })",
            ]
        }
    }
}
