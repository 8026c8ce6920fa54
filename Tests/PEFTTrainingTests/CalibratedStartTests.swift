import Foundation
import PEFT
import PEFTTraining
import TestSupport
import Testing
import TrainingTestSupport

/// Starts of LoRA that rows decide, against PEFT; fixtures of `scripts/fixtures/calibrated_starts.py`.
@Suite struct CalibratedStartTests {
    static let names = [
        "corda-ipm", "corda-kpm", "corda-transposed", "eva", "eva-all-tokens", "eva-ranks",
        "lora-ga", "lora-ga-alternating", "lora-ga-reversed", "lora-ga-unit",
    ]

    /// What a fixture was made of.
    private struct Asked {
        let base: String
        let config: LoRAConfig
        let batches: [TokenBatch]

        init(_ name: String) throws {
            let data = try Data(contentsOf: Checkout.fixture("calibrated/\(name)/asked.json"))
            let object = try #require(
                try JSONSerialization.jsonObject(with: data) as? [String: Any])
            base = try #require(object["base"] as? String)
            config = try LoRAConfig(
                adapterConfigJSON: JSONSerialization.data(
                    withJSONObject: #require(object["options"])))
            let rows = try #require(object["batches"] as? [[[[Int]]]])
            batches = rows.map { batch in
                TokenBatch(
                    batch.enumerated().map { index, row in
                        TokenSequence(
                            tokens: row[0].map(Int32.init), isTarget: row[1].map { $0 != -100 },
                            row: index)
                    })
            }
        }
    }

    private let workspace: Workspace

    init() throws { workspace = try Workspace() }

    private func base(_ name: String, start: WeightStart? = nil) throws -> BaseModel {
        try BaseModel(
            at: Checkout.fixture("models/\(name)"),
            options: BaseModelOptions(
                quantization: nil, computeDType: .float32, start: start))
    }

    private func start(_ asked: Asked) throws -> CalibratedStart {
        try #require(CalibratedStart(asked.config, seed: 3))
    }

    @Test func everyFixtureIsACase() throws {
        let folders = try FileManager.default.contentsOfDirectory(
            atPath: Checkout.fixture("calibrated").path)
        #expect(folders.sorted() == Self.names)
    }

    /// Singular vectors have no sign of their own, so A and B are compared by the sizes of their elements.
    ///
    /// What is left of the base is `W - s B A`; where A and B are of the same singular vectors, it is PEFT's.
    @Test(arguments: names)
    func theAdapterAndWhatIsLeftAreThoseOfPEFT(name: String) throws {
        let (asked, folder) = (try Asked(name), workspace.url.appending(path: name))
        try start(asked).write(base(asked.base), batches: asked.batches, to: folder)
        let theirs = Checkout.fixture("calibrated/\(name)")
        let file = try SafetensorsFile(theirs.appending(path: "expected.safetensors"))
        let adapted = try AdaptedModel(
            base(asked.base, start: WeightStart(loading: folder)), loading: folder)
        let expected = file.entries.map(\.name).filter { $0.hasPrefix("start.") }
        #expect(
            Set(expected) == Set(adapted.adapter.parameters.map { "start." + $0.path }))
        // The largest singular value of the weight is found in a random subspace, by PEFT and here.
        let bound = name == "lora-ga-reversed" ? 2e-2 : 1e-4
        for parameter in adapted.adapter.parameters {
            let entry = try #require(file.entry("start." + parameter.path))
            #expect(parameter.value.shape == entry.shape, "\(parameter.path)")
            let (ours, their) = (try parameter.value.floats(), try file.tensor(entry).floats())
            if their.allSatisfy({ $0 == 0 }) {
                #expect(ours.allSatisfy { $0 == 0 }, "\(parameter.path)")
                continue
            }
            let error = Tolerance.relativeError(ours.map(abs), their.map(abs))
            #expect(error < bound, "\(parameter.path)")
        }
        let whole = try base(asked.base).registry
        for linear in adapted.base.registry.linears {
            guard let lora = linear.adapter as? LoRA else { continue }
            let left = try linear.weight.dequantized()
            let weight = try #require(whole.linears.first { $0.path == linear.path })
                .weight.dequantized()
            if asked.config.initLoraWeights == .eva {
                #expect(try left.isEqual(to: weight))
                continue
            }
            let expected =
                try weight - lora.loraB.value.detach()
                .matmul(lora.loraA.value.detach()) * lora.target.scaling
            #expect(try Tolerance.relativeError(left.floats(), expected.floats()) < 1e-5)
            guard asked.config.initLoraWeights == .corda else { continue }
            let entry = try #require(file.entry("left." + linear.path))
            let error = Tolerance.relativeError(
                try left.floats(), try file.tensor(entry).floats())
            #expect(error < bound, "\(linear.path)")
        }
        let config = try LoRAConfig(
            adapterConfigJSON: Data(
                contentsOf: theirs.appending(path: "adapter_config.json")))
        let ours = try #require(adapted.adapter.config as? LoRAConfig)
        #expect(ours.rankPattern == config.rankPattern)
        #expect(ours.alphaPattern == config.alphaPattern)
        #expect(ours.evaConfig == config.evaConfig)
        #expect(ours.cordaConfig == config.cordaConfig)
        #expect(ours.loraGAConfig == config.loraGAConfig)
    }

    /// With its adapter the model is its base, up to the rounding of what is left.
    @Test(arguments: ["corda-kpm", "eva-ranks", "lora-ga"])
    func theModelStartsAsItsBase(name: String) throws {
        let (asked, folder) = (try Asked(name), workspace.url.appending(path: name))
        try start(asked).write(base(asked.base), batches: asked.batches, to: folder)
        func loss(_ model: BaseModel) throws -> Double {
            let batch = asked.batches[1]
            return try withoutGrad {
                try model.model.losses(
                    tokens: batch.tokens, targets: batch.targets,
                    context: ForwardContext(
                        layout: SequenceLayout(segmentLengths: batch.segmentLengths)),
                    execution: ResidentExecution()
                ).sum.item()
            }
        }
        let adapted = try AdaptedModel(
            base(asked.base, start: WeightStart(loading: folder)), loading: folder)
        let (whole, found) = (try loss(base(asked.base)), try loss(adapted.base))
        #expect(abs(found - whole) < 1e-4 * whole)
    }

    @Test func recomputedBlocksGiveTheSameGradients() throws {
        let asked = try Asked("lora-ga")
        let (kept, recomputed) = (
            workspace.url.appending(path: "kept"), workspace.url.appending(path: "recomputed")
        )
        try start(asked).write(base(asked.base), batches: asked.batches, to: kept)
        try start(asked).write(
            base(asked.base), batches: asked.batches, recomputingEvery: 1, to: recomputed)
        let file = "adapter_model.safetensors"
        #expect(
            try RunFiles.bytes(kept.appending(path: file).path)
                == RunFiles.bytes(recomputed.appending(path: file).path))
    }

    // MARK: - Refused

    @Test func aNewAdapterNeedsItsStart() throws {
        let asked = try Asked("eva")
        #expect(throws: TrainingError.startNeedsRows(initialization: "eva")) {
            _ = try AdaptedModel(base(asked.base), adapter: asked.config, seed: 1)
        }
        let corda = try Asked("corda-ipm")
        #expect(throws: TrainingError.startNeedsRows(initialization: "corda")) {
            _ = try base(corda.base, start: WeightStart(corda.config, seed: 1))
        }
        #expect(CalibratedStart(LoRAConfig(), seed: 1) == nil)
    }

    @Test func rowsThatDecideNothingAreRefused() throws {
        let asked = try Asked("eva")
        let short = [asked.batches[0].segment(0)]
        let folder = workspace.url.appending(path: "short")
        let error = #expect(throws: TrainingError.self) {
            var config = asked.config
            config.r = 8
            try #require(CalibratedStart(config, seed: 3))
                .write(base(asked.base), batches: short, to: folder)
        }
        #expect("\(try #require(error))".contains("give a larger per_device_train_batch_size"))
        let gradients = try Asked("lora-ga")
        let none = gradients.batches.map {
            $0.with(targets: $0.targets.map { _ in TokenBatch.ignoredTarget })
        }
        let second = #expect(throws: TrainingError.self) {
            try start(gradients).write(base(gradients.base), batches: none, to: folder)
        }
        #expect("\(try #require(second))".contains("are there targets in the rows?"))
        #expect(!FileManager.default.fileExists(atPath: folder.path))
    }

    @Test func aQuantizedBaseIsRefused() throws {
        let asked = try Asked("corda-ipm")
        let quantized = try BaseModel(
            at: Checkout.fixture("models/\(asked.base)"),
            options: BaseModelOptions(
                quantization: QuantizationConfig(
                    quantType: .nf4, blockSize: 32, usesDoubleQuantization: false),
                computeDType: .float32))
        #expect(throws: AdapterError.self) {
            try start(asked).write(
                quantized, batches: asked.batches, to: workspace.url.appending(path: "q"))
        }
    }

    @Test func optionsOfOtherStartsAreRefused() throws {
        for (key, value) in [
            ("eva_config", "{\"rho\": 0.5}"), ("eva_config", "{\"tau\": 2}"),
            ("lora_ga_config", "{\"stable_gamma\": 0}"), ("corda_config", "{}"),
        ] {
            let start = ["eva_config": "eva", "lora_ga_config": "lora_ga"][key] ?? "gaussian"
            let json = """
                {"peft_type": "LORA", "r": 2, "target_modules": ["q_proj"], \
                "init_lora_weights": "\(start)", "\(key)": \(value)}
                """
            #expect(throws: AdapterError.self, "\(key) \(value)") {
                try LoRAConfig(adapterConfigJSON: Data(json.utf8)).validate()
            }
        }
        #expect(throws: AdapterError.self) {
            _ = try LoRAConfig(
                adapterConfigJSON: Data(
                    """
                    {"peft_type": "LORA", "init_lora_weights": "corda", "corda_config": {"corda_method": "x"}}
                    """.utf8))
        }
    }

    // MARK: - Runs

    private func makeRun(_ start: LoRAInitialization) throws -> TinyRun {
        var run = try TinyRun(model: TinyModel.grouped, steps: 4).writing(to: "whole") {
            $0.initLoraWeights = start
            $0.quantize = .nf4
            $0.quantBlockSize = 32
            $0.learningRate = 1e-3
            $0.calibrationRows = 6
        }
        run.config.evalData = run.config.data
        return run
    }

    private static let starts: [LoRAInitialization] = [.eva, .corda, .loraGA]

    @Test(arguments: starts)
    func aStoppedRunGoesOnBitExactly(start: LoRAInitialization) throws {
        let whole = try makeRun(start)
        try whole.run()
        #expect(Set(try whole.losses).count > 1)
        let stopped = whole.writing(to: "stopped")
        try stopped.run(stopAfter: 2)
        try stopped.writing(to: "stopped") { $0.resume = true }.run()
        #expect(try stopped.losses == whole.losses)
        #expect(try stopped.adapterBytes == whole.adapterBytes)
        #expect(
            try RunFiles.names(in: whole.config.outputDir).contains("initial_adapter")
                == start.readsWeight)
    }

    @Test(arguments: starts)
    func theFolderScoresWhatWasTrained(start: LoRAInitialization) throws {
        let run = try makeRun(start)
        guard case .finished(let summary) = try run.run().last else {
            Issue.record("the run did not finish")
            return
        }
        #expect(try run.score(adapter: run.config.outputDir) == summary.lastEvalLoss)
    }

    @Test func doctorChecksWithoutTheRows() throws {
        let run = try makeRun(.corda)
        let report = try Doctor.run(run.config)
        let adapter = try #require(report.checks.first { $0.topic == "adapter" })
        #expect(adapter.findings.first?.contains("not started from rows as in a run") == true)
        #expect(!report.checks.contains { $0.outcome == .failed })
        #expect(!FileManager.default.fileExists(atPath: run.config.outputDir + "/start"))
    }

    /// The pass may take minutes, and there is nothing to go on from before it ends.
    @Test(arguments: [LoRAInitialization.eva, .corda, .loraGA])
    func aPassThatIsInterruptedEndsTheRun(start: LoRAInitialization) throws {
        let run = try TinyRun(rows: TinyRows.make(24), model: TinyModel.grouped).writing(to: "out")
        {
            $0.initLoraWeights = start
        }
        let stop = StopRequest()
        var events: [TrainingEvent] = []
        try FineTune.run(run.config, stop: stop) { event in
            events.append(event)
            if case .notice(let text) = event, text.hasPrefix("computing init_lora_weights") {
                stop.request(signal: SIGTERM)
            }
        }
        #expect(events.last == .interrupted(signal: "SIGTERM", step: 0))
        #expect(events.count == 2)
        #expect(try !RunFiles.names(in: run.config.outputDir).contains("start"))
        try run.writing(to: "out") { $0.resume = true }.run()
        #expect(try run.losses.count == 4)
    }
}
