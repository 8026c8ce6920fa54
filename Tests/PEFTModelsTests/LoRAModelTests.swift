import Foundation
import PEFTAdapters
import PEFTCheckpoints
import PEFTLayers
import PEFTModels
import PEFTQuantization
import TestSupport
import Testing
import Torch

/// What LoRA trains besides two matrices on linears, in whole models: adapters of PEFT, with its logits and gradients.
@Suite struct LoRAModelTests {
    /// The base model of each fixture, by name.
    static let bases: [String: String] = {
        let url = Checkout.fixture("lora/cases.json")
        let data = (try? Data(contentsOf: url)) ?? Data()
        return (try? JSONDecoder().decode([String: String].self, from: data)) ?? [:]
    }()
    static let names = bases.keys.sorted()

    /// A model of the fixtures with an adapter of the fixtures.
    struct Adapted {
        let model: any CausalLanguageModel
        let registry = ModuleRegistry()
        let adapter: AdapterSet
        let folder: AdapterFolder
        let expected: SafetensorsFile

        init(_ name: String, isTrainable: Bool = true, fills: Bool = true) throws {
            let base = try #require(LoRAModelTests.bases[name])
            let files = try BaseModelFiles.open(Checkout.fixture("models/\(base)"))
            model = try ModelRegistry.makeModel(
                config: files.configuration, Scope(registry: registry, source: files.source))
            let url = Checkout.fixture("lora/\(name)")
            folder = try AdapterFolder.read(url)
            let config = try LoRAConfig(adapterConfigJSON: folder.configuration)
            adapter = try config.attach(to: registry, seed: 0, isTrainable: isTrainable)
            expected = try SafetensorsFile(url.appending(path: "expected.safetensors"))
            guard fills else { return }
            try adapter.load(
                folder.tensors(
                    expected: adapter.tensorShapes, ignoring: adapter.frozenCopies))
        }

        func tensor(_ name: String) throws -> Tensor {
            try expected.tensor(try #require(expected.entry(name), "\(name)"))
        }

        func context(_ numTokens: Int, usesAdapters: Bool = true) -> ForwardContext {
            ForwardContext(
                layout: SequenceLayout(segmentLengths: [numTokens]), usesAdapters: usesAdapters)
        }

        func logits(usesAdapters: Bool = true) throws -> [Float] {
            let tokens = try tensor("tokens")
            let context = try context(tokens.shape[0], usesAdapters: usesAdapters)
                .reading(tokens.int64s().map { Int32($0) })
            return try withoutGrad {
                let hidden = try model.hiddenStates(
                    tokens, context: context, execution: ResidentExecution())
                return try model.logits(hidden, context: context).floats()
            }
        }

        func losses(_ execution: any BlockExecution) throws -> TokenLosses {
            let tokens = try tensor("tokens").int64s().map { Int32($0) }
            return try model.losses(
                tokens: tokens, targets: tokens.dropFirst() + [-1],
                context: context(tokens.count), execution: execution)
        }
    }

    @Test func everyFixtureIsACase() throws {
        let folders = try FileManager.default.contentsOfDirectory(
            atPath: Checkout.fixture("lora").path)
        #expect(Self.names.count >= 20)
        #expect(Set(folders) == Set(Self.names + ["cases.json"]))
    }

    @Test(arguments: names)
    func logitsAreThoseOfPEFT(name: String) throws {
        let adapted = try Adapted(name)
        let found = try adapted.logits()
        let error = try Tolerance.maxError(found, adapted.tensor("logits").floats())
        #expect(error <= Tolerance.logits)
        let plain = try adapted.logits(usesAdapters: false)
        #expect(Tolerance.maxError(found, plain) > 0.01, "the adapter changes nothing")
    }

    @Test(arguments: names)
    func gradientsAreThoseOfPEFT(name: String) throws {
        for execution in [ResidentExecution(), RecomputedExecution()] as [any BlockExecution] {
            let adapted = try Adapted(name)
            let losses = try adapted.losses(execution)
            let loss = try losses.sum.detach().item()
            let wanted = try adapted.tensor("loss").item()
            #expect(abs(loss - wanted) <= Tolerance.trainingLoss * wanted)
            try losses.sum.backward()
            let names = adapted.expected.entries.map(\.name).filter { $0.hasPrefix("grad.") }
            #expect(
                Set(names.map { String($0.dropFirst(5)) }) == Set(adapted.adapter.tensorShapes.keys)
            )
            for parameter in adapted.adapter.parameters {
                let gradient = try #require(parameter.value.grad, "\(parameter.path)")
                #expect(gradient.dtype == .float32)
                let expected = try adapted.tensor("grad." + parameter.path).floats()
                let error = try Tolerance.relativeError(gradient.floats(), expected)
                #expect(error <= Tolerance.gradient, "\(parameter.path)")
            }
            #expect(
                adapted.registry.frozenParameters.allSatisfy {
                    !$0.value.requiresGrad && $0.value.grad == nil
                })
        }
    }

    @Test(arguments: names)
    func configurationAndTensorsAreWrittenAsPEFTDoes(name: String) throws {
        let adapted = try Adapted(name)
        let written = adapted.adapter.config.adapterConfigJSON()
        let value = try JSONDecoder().decode(ConfigValue.self, from: written)
        let theirs = try JSONDecoder().decode(
            ConfigValue.self, from: adapted.folder.configuration)
        #expect(Self.sorted(value) == Self.sorted(theirs))
        let names = Set(adapted.folder.weights.entries.map(\.name))
        // PEFT writes frozen copies of layers that have the usual names.
        let copies = Set(adapted.adapter.frozenCopies.keys)
        #expect(names.subtracting(copies) == Set(adapted.adapter.tensorShapes.keys))
    }

    /// A configuration with the names of `target_modules` in order: PEFT's is a set.
    private static func sorted(_ value: ConfigValue) -> ConfigValue {
        guard case .object(var members) = value, case .array(let names)? = members["target_modules"]
        else { return value }
        members["target_modules"] = .array(names.sorted { $0.description < $1.description })
        return .object(members)
    }

    @Test(arguments: names)
    func theStartIsTheBase(name: String) throws {
        let adapted = try Adapted(name, fills: false)
        #expect(try adapted.adapter.changesNothing())
        let plain = try adapted.logits(usesAdapters: false)
        #expect(try Tolerance.maxError(adapted.logits(), plain) <= 1e-5)
        #expect(try !Adapted(name).adapter.changesNothing())
    }

    @Test(arguments: names)
    func aFrozenAdapterHasNothingToTrain(name: String) throws {
        let adapted = try Adapted(name, isTrainable: false)
        #expect(adapted.registry.trainableParameters.isEmpty)
        let found = try adapted.logits()
        #expect(
            try Tolerance.maxError(found, adapted.tensor("logits").floats()) <= Tolerance.logits)
    }

    /// The optimizer's tensors are the adapter's, each once.
    @Test(arguments: names)
    func whatIsTrainedIsWhatIsWritten(name: String) throws {
        let adapted = try Adapted(name)
        let trained = adapted.registry.trainableParameters
        #expect(trained.count == adapted.adapter.parameters.count)
        #expect(Set(trained.map(\.path)) == Set(adapted.adapter.parameters.map(\.path)))
    }

    // MARK: - Storage

    /// A DoRA on a weight in 4 bits computes what it does on the decoded weight: its norm is that of the decoded one.
    @Test(arguments: [QuantType.nf4, .fp4])
    func doraOnFourBitsIsDoRAOnTheDecodedWeight(type: QuantType) throws {
        let source = try QuantizingSource(
            RandomSource(seed: 1, standardDeviation: 0.3),
            config: QuantizationConfig(quantType: type))
        let quantized = try source.linearWeight(at: "layer.weight", shape: [7, 33])
        let decoded = DenseWeight(
            try Parameter(
                path: "layer.weight", value: quantized.dequantized(), isTrainable: false))
        var results: [[Float]] = []
        for weight in [quantized, decoded] {
            let dora = try DoRA(
                LoRA(
                    target: LoRATarget(path: "layer", rank: 3, alpha: 5), inFeatures: 33,
                    outFeatures: 7, initialization: .random, seed: 2), on: weight, bias: nil)
            let linear = Linear(path: "layer", weight: weight)
            linear.attach(dora)
            let input = try Tensor.normal([5, 33], generator: Generator(seed: 3))
            try input.setRequiresGrad(true)
            let output = try linear(
                input, context: ForwardContext(layout: SequenceLayout(segmentLengths: [5])))
            try (output * output).sum().backward()
            let gradients = [input.grad] + dora.parameters.map(\.value.grad)
            results.append(
                try output.detach().floats()
                    + gradients.flatMap { try #require($0).floats() })
        }
        #expect(Tolerance.relativeError(results[0], results[1]) <= Tolerance.float32)
    }

    @Test func aModuleInFourBitsIsNotTrainedWhole() throws {
        let registry = ModuleRegistry()
        let scope = Scope(registry: registry, source: try QuantizingSource(RandomSource(seed: 1)))
        _ = try (scope / "mlp").linear("up_proj", inFeatures: 64, outFeatures: 64)
        _ = try (scope / "mlp").linear("down_proj", inFeatures: 64, outFeatures: 64)
        var config = LoRAConfig(targetModules: ["up_proj"])
        config.modulesToSave = ["down_proj"]
        let error = #expect(throws: AdapterError.self) { try config.attach(to: registry, seed: 0) }
        #expect(
            error?.description == """
                The adapter configuration is not usable:
                - modules_to_save: mlp.down_proj.weight is stored in quantized codes; name modules that are not \
                quantized, or quantize nothing
                """)
        #expect(registry.linears.allSatisfy { $0.adapter == nil })
    }
}
