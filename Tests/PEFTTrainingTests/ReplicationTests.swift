import Foundation
import PEFT
import PEFTTraining
import TestSupport
import Testing
import TrainingTestSupport

/// Models made of copies of their base's blocks, against PEFT; fixtures of `scripts/fixtures/replicated.py`.
@Suite struct ReplicationTests {
    /// A base model by the case.
    static let cases: [String: String] = {
        let data = (try? Data(contentsOf: Checkout.fixture("replicated/cases.json"))) ?? Data()
        return (try? JSONDecoder().decode([String: String].self, from: data)) ?? [:]
    }()
    static let names = cases.keys.sorted()

    private func folder(_ name: String) -> URL { Checkout.fixture("replicated/\(name)") }

    private func options(
        _ quantization: QuantizationConfig? = nil, for name: String? = nil
    ) throws -> BaseModelOptions {
        var options = BaseModelOptions(quantization: quantization, computeDType: .float32)
        if let name { try options.fit(loading: folder(name)) }
        return options
    }

    private func model(_ name: String) throws -> URL {
        Checkout.fixture("models/\(try #require(Self.cases[name]))")
    }

    private func loaded(
        _ name: String, _ quantization: QuantizationConfig? = nil
    ) throws -> AdaptedModel {
        try AdaptedModel(
            BaseModel(at: model(name), options: options(quantization, for: name)),
            loading: folder(name))
    }

    private func expected(_ name: String, _ tensor: String) throws -> Tensor {
        let file = try SafetensorsFile(folder(name).appending(path: "expected.safetensors"))
        return try file.tensor(#require(file.entry(tensor), "\(tensor)"))
    }

    private func logits(
        _ adapted: AdaptedModel, _ tokens: Tensor, cache: KeyValueCache? = nil, first: Int = 0
    ) throws -> [Float] {
        let model = adapted.base.model
        let context = ForwardContext(
            layout: SequenceLayout(segmentLengths: [tokens.shape[0]], firstPosition: first),
            cache: cache)
        return try withoutGrad {
            let hidden = try model.hiddenStates(
                tokens, context: context, execution: ResidentExecution())
            return try model.logits(hidden, context: context).floats()
        }
    }

    // MARK: - Against PEFT

    @Test func everyFixtureIsACase() throws {
        let folders = try FileManager.default.contentsOfDirectory(atPath: folder("").path)
        #expect(Set(folders) == Set(Self.names + ["cases.json"]))
        #expect(Self.names.count >= 4)
    }

    @Test(arguments: names)
    func logitsAndGradientsAreThoseOfPEFT(name: String) throws {
        let adapted = try loaded(name)
        let tokens = try expected(name, "tokens")
        let found = try logits(adapted, tokens)
        #expect(
            try Tolerance.maxError(found, expected(name, "logits").floats()) < Tolerance.logits)
        let ids = try tokens.int64s().map { Int32($0) }
        let losses = try adapted.base.model.losses(
            tokens: ids, targets: ids.dropFirst() + [-1],
            context: ForwardContext(layout: SequenceLayout(segmentLengths: [ids.count])),
            execution: ResidentExecution())
        let wanted = try expected(name, "loss").item()
        #expect(try abs(losses.sum.detach().item() - wanted) < Tolerance.trainingLoss * wanted)
        try losses.sum.backward()
        for parameter in adapted.adapter.parameters {
            let gradient = try #require(parameter.value.grad, "\(parameter.path)")
            let error = try Tolerance.relativeError(
                gradient.floats(), expected(name, "grad." + parameter.path).floats())
            #expect(error < 5 * Tolerance.gradient, "\(parameter.path)")
        }
    }

    @Test(arguments: names)
    func aFolderIsWrittenAsItWasRead(name: String) throws {
        let data = try Data(contentsOf: folder(name).appending(path: "adapter_config.json"))
        let config = try LoRAConfig(adapterConfigJSON: data)
        #expect(config.layerReplication?.isEmpty == false)
        let written = try JSONDecoder().decode(ConfigValue.self, from: config.adapterConfigJSON())
        #expect(try written == JSONDecoder().decode(ConfigValue.self, from: data))
    }

    // MARK: - Copies

    @Test(arguments: [nil, QuantizationConfig(quantType: .nf4, blockSize: 32)])
    func copiesShareTheirWeights(quantization: QuantizationConfig?) throws {
        let plain = try BaseModel(at: model("doubled"), options: options(quantization))
        let doubled = try loaded("doubled", quantization).base
        #expect(doubled.model.units.count == 2 * plain.model.units.count)
        #expect(doubled.registry.sizeBytes == plain.registry.sizeBytes)
        #expect(doubled.registry.numElements == plain.registry.numElements)
        #expect(doubled.fingerprint == plain.fingerprint)
        let dropped = try loaded("overlapping", quantization).base
        let whole = try BaseModel(at: model("overlapping"), options: options(quantization))
        #expect(dropped.registry.numElements < whole.registry.numElements)
        #expect(dropped.fingerprint == whole.fingerprint)
    }

    @Test func aModuleThatIsTrainedIsOneCopyOnly() throws {
        let adapted = try loaded("saved")
        let replaced = adapted.base.registry.parameters.filter { $0.replacement != nil }
        #expect(replaced.map(\.path) == ["model.layers.2.input_layernorm.weight"])
        let weights = adapted.base.registry.linears.filter {
            $0.weight.replaceable?.replacement != nil
        }
        #expect(weights.map(\.path) == ["model.layers.0.mlp.up_proj"])
    }

    /// Every copy has keys and values of its own.
    @Test(arguments: names)
    func tokensOneByOneAreAsAllAtOnce(name: String) throws {
        let adapted = try loaded(name)
        let tokens = try expected(name, "tokens")
        let cache = KeyValueCache()
        var last: [Float] = []
        for index in 0..<tokens.shape[0] {
            last += try logits(adapted, tokens.narrow(0, index, 1), cache: cache, first: index)
        }
        #expect(try Tolerance.maxError(last, logits(adapted, tokens)) < Tolerance.logits)
    }

    // MARK: - Runs

    private func makeRun() throws -> TinyRun {
        var run = try TinyRun(model: TinyModel.grouped).writing(to: "whole") {
            $0.layerReplication = [[0, 2], [1, 2]]
            $0.layersToTransform = [1, 2]
            $0.quantize = .nf4
            $0.quantBlockSize = 32
        }
        run.config.evalData = run.config.data
        return run
    }

    @Test func aRunGoesOnAndIsScoredWithItsBlocks() throws {
        let whole = try makeRun()
        guard case .finished(let summary) = try whole.run().last else {
            return #expect(Bool(false), "the run did not finish")
        }
        #expect(try whole.losses.count == 4)
        #expect(try whole.score(adapter: whole.config.outputDir) == summary.lastEvalLoss)
        let stopped = whole.writing(to: "stopped")
        try stopped.run(stopAfter: 2)
        try stopped.writing(to: "stopped") { $0.resume = true }.run()
        #expect(try stopped.adapterBytes == whole.adapterBytes)
        let names = try AdapterFolder.read(URL(filePath: whole.config.outputDir)).weights.entries
        #expect(
            names.allSatisfy { $0.name.contains(".layers.1.") || $0.name.contains(".layers.2.") })
    }

    @Test(arguments: [
        "[]", "[[0]]", "[[1, 0]]", "[[-1, 1]]", "[[0, 9223372036854775807]]",
        "[[0, 9000], [0, 9000]]",
    ])
    func whatAFileSaysIsChecked(ranges: String) throws {
        let config = try LoRAConfig(
            adapterConfigJSON: Data(
                #"{"peft_type": "LORA", "target_modules": ["q_proj"], "layer_replication": \#(ranges)}"#
                    .utf8))
        #expect(config.blockOrder == nil)
        let error = #expect(throws: AdapterError.self) { try config.validate() }
        #expect(
            error?.description.contains(
                "layer_replication: expected null or ranges [from, to] of blocks, from below to, at "
                    + "most 10000 blocks in all, found \(ranges)") == true)
    }

    @Test func whatDoesNotGoTogetherIsRefused() throws {
        func expectError(
            _ text: String, sourceLocation: SourceLocation = #_sourceLocation,
            _ body: () throws -> Void
        ) {
            let error = #expect(
                throws: (any Error).self, sourceLocation: sourceLocation, performing: body)
            let message = error.map { "\($0)" } ?? ""
            #expect(message.contains(text), "\(message)", sourceLocation: sourceLocation)
        }
        let run = try makeRun()
        for (text, change) in [
            (
                "within the base model's blocks 0..<2, found block 2",
                { $0.layerReplication = [[0, 3]] }
            ),
            ("is empty: the model would have no blocks", { $0.layerReplication = [] }),
            ("expected ranges [from, to] of blocks", { $0.layerReplication = [[1, 1]] }),
            ("needs an init_lora_weights that depends on neither", { $0.initLoraWeights = .pissa }),
            ("needs an init_lora_weights that depends on neither", { $0.useKasa = true }),
        ] as [(String, (inout FineTuneConfig) -> Void)] {
            expectError(text) { _ = try run.writing(to: "refused", change).run() }
        }
        try run.run()
        var export = ExportOptions()
        export.adapter = run.config.outputDir
        export.output = run.workspace.path("exported")
        expectError("belongs to the model that its layer_replication makes of the base's blocks") {
            _ = try Export.run(export)
        }
        var merge = MergeOptions()
        merge.adapter = run.config.outputDir
        merge.output = run.workspace.path("merged")
        expectError("belongs to the model that its layer_replication makes of the base's blocks") {
            _ = try Merge.run(merge)
        }
        let plain = try BaseModel(at: model("doubled"), options: options())
        expectError("expected the blocks that the base was read with (its own), found [0, 1, 0, 1]")
        {
            _ = try AdaptedModel(plain, loading: folder("doubled"))
        }
    }
}
