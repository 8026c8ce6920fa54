import Foundation
import PEFT
import PEFTTraining
import TestSupport
import Testing
import TrainingTestSupport

/// Runs whose adapters take a part out of the base: what is written, read again, resumed, merged, exported, and refused.
@Suite struct WeightStartRunTests {
    /// A start, and how the base is stored.
    struct Case: Sendable, CustomTestStringConvertible {
        let start: LoRAInitialization
        let quantize: BaseQuantization
        var loftqIter = 1
        var useKasa = false

        var testDescription: String {
            "\(useKasa ? "KaSA" : "\(start)") \(quantize) \(loftqIter)"
        }

        static let all = [
            Case(start: .pissa, quantize: .none), Case(start: .pissa, quantize: .nf4),
            Case(start: .pissaIterated(4), quantize: .nf4), Case(start: .olora, quantize: .none),
            Case(start: .olora, quantize: .nf4), Case(start: .loftq, quantize: .nf4),
            Case(start: .loftq, quantize: .nf4, loftqIter: 3),
            Case(start: .kaimingUniform, quantize: .none, useKasa: true),
            Case(start: .kaimingUniform, quantize: .nf4, useKasa: true),
        ]

        /// Whether something is taken out of the base.
        var subtracts: Bool { start != .loftq || loftqIter > 1 }
    }

    private func makeRun(_ choice: Case, steps: Int = 4) throws -> TinyRun {
        var run = try TinyRun(model: TinyModel.grouped, steps: steps).writing(to: "whole") {
            $0.initLoraWeights = choice.start
            $0.loftqIter = choice.loftqIter
            $0.useKasa = choice.useKasa
            $0.quantize = choice.quantize
            $0.quantBlockSize = 32
            $0.learningRate = 1e-3
        }
        run.config.evalData = run.config.data
        return run
    }

    private func lastEvalLoss(_ events: [TrainingEvent]) throws -> Double {
        guard case .finished(let summary) = events.last else {
            throw TrainingError.emptyPrompt
        }
        return try #require(summary.lastEvalLoss)
    }

    @Test(arguments: Case.all)
    func theFolderScoresWhatWasTrained(choice: Case) throws {
        let run = try makeRun(choice)
        let loss = try lastEvalLoss(run.run())
        let output = run.config.outputDir
        #expect(try run.score(adapter: output) == loss)
        #expect(try run.score(adapter: nil) != loss)
        #expect(try RunFiles.names(in: output).contains("initial_adapter") == choice.subtracts)
        let config = try LoRAConfig(
            adapterConfigJSON: AdapterFolder.read(URL(filePath: output)).configuration)
        #expect(config.initLoraWeights == (choice.subtracts ? choice.start : .kaimingUniform))
        #expect(config.kasaConfig == (choice.useKasa ? KaSAConfig() : nil))
    }

    @Test(arguments: Case.all)
    func aStoppedRunGoesOnBitExactly(choice: Case) throws {
        let whole = try makeRun(choice)
        try whole.run()
        let stopped = whole.writing(to: "stopped")
        try stopped.run(stopAfter: 2)
        try stopped.writing(to: "stopped") { $0.resume = true }.run()
        #expect(try stopped.losses == whole.losses)
        #expect(try stopped.adapterBytes == whole.adapterBytes)
        guard choice.subtracts else { return }
        let file = "/initial_adapter/adapter_model.safetensors"
        #expect(
            try RunFiles.bytes(stopped.config.outputDir + file)
                == RunFiles.bytes(whole.config.outputDir + file))
    }

    @Test(arguments: [Case.all[1], Case.all[6], Case.all[8]])
    func anOffloadedBaseIsTheSameRun(choice: Case) throws {
        let whole = try makeRun(choice).writing(to: "whole") { $0.maxGradNorm = 0 }
        try whole.run()
        let offloaded = whole.writing(to: "offloaded") {
            $0.offload = .base
            $0.gradientCheckpointing = true
        }
        try offloaded.run()
        #expect(try offloaded.losses == whole.losses)
        #expect(try offloaded.adapter == whole.adapter)
    }

    /// On a dense base the plain adapter and the merged model are what was trained; of a quantized one, what is left of the
    /// base was rounded in training, and the base that they fit is not.
    @Test(arguments: [Case.all[0], Case.all[3], Case.all[7]])
    func thePlainAdapterAndTheMergedModelAreWhatWasTrained(choice: Case) throws {
        let run = try makeRun(choice)
        let loss = try lastEvalLoss(run.run())
        var export = ExportOptions()
        export.adapter = run.config.outputDir
        export.output = run.workspace.path("plain")
        export.format = .peftLora
        _ = try Export.run(export)
        let plain = try run.score(adapter: export.output)
        #expect(abs(plain - loss) < 1e-5 * loss)
        var merge = MergeOptions()
        merge.adapter = run.config.outputDir
        merge.output = run.workspace.path("merged")
        merge.dtype = .float32
        merge.threads = 1
        let report = try Merge.run(merge)
        #expect(report.layers.allSatisfy { $0.survived > 0.99 })
        var merged = run
        merged.config.model = merge.output
        #expect(abs(try merged.score(adapter: nil) - loss) < 1e-5 * loss)
    }

    @Test(arguments: [Case.all[1], Case.all[6], Case.all[8]])
    func aMergedModelOfAQuantizedBaseIsWhatWasTrained(choice: Case) throws {
        let run = try makeRun(choice)
        let loss = try lastEvalLoss(run.run())
        var merge = MergeOptions()
        merge.adapter = run.config.outputDir
        merge.output = run.workspace.path("merged")
        merge.dtype = .float32
        merge.threads = 1
        _ = try Merge.run(merge)
        var merged = run
        merged.config.model = merge.output
        merged.config.quantize = .none
        #expect(abs(try merged.score(adapter: nil) - loss) < 1e-5 * loss)
    }

    @Test func aFolderOfPEFTIsComputedAgain() throws {
        for choice in [Case.all[0], Case.all[2], Case.all[7]] {
            let run = try makeRun(choice)
            let loss = try lastEvalLoss(run.run())
            let output = run.config.outputDir
            try FileManager.default.removeItem(atPath: output + "/initial_adapter")
            if choice.start != .pissaIterated(4) {
                #expect(abs(try run.score(adapter: output) - loss) < 1e-5 * loss)
            } else {
                let error = #expect(throws: CheckpointError.self) {
                    try run.score(adapter: output)
                }
                #expect(
                    error?.description.contains(
                        "what pissa_niter_4 took out of the base was random, and there is no "
                            + "initial_adapter") == true)
            }
        }
    }

    @Test func aRunGoesOnFromAnotherAdapter() throws {
        let run = try makeRun(Case.all[1])
        let loss = try lastEvalLoss(run.run())
        let further = run.writing(to: "further") { $0.adapter = run.config.outputDir }
        let events = try further.run()
        guard
            case .finished(let summary) = events.last
        else { return #expect(Bool(false), "the run did not finish") }
        #expect(try #require(summary.lastEvalLoss) < loss)
        #expect(
            try further.score(adapter: further.config.outputDir) == summary.lastEvalLoss)
    }

    // MARK: - What does not go together

    @Test func whatDoesNotGoTogetherIsRefused() throws {
        func expectError(
            _ text: String, _ choice: Case = Case.all[0],
            _ change: (inout FineTuneConfig) -> Void,
            sourceLocation: SourceLocation = #_sourceLocation
        ) throws {
            let run = try makeRun(choice).writing(to: "refused", change)
            let error = #expect(throws: (any Error).self, sourceLocation: sourceLocation) {
                try run.run()
            }
            let message = error.map { "\($0)" } ?? ""
            #expect(message.contains(text), "\(message)", sourceLocation: sourceLocation)
        }
        try expectError(
            "model.embed_tokens is an embedding; leave it out of target_modules"
        ) { $0.targetModules = .names(["embed_tokens"]) }
        try expectError(
            "lm_head has the embedding's weight, from which nothing can be taken"
        ) {
            $0.model = TinyModel.tied
            $0.targetModules = .names(["lm_head"])
        }
        try expectError("has a weight of rank") { $0.loraR = 500 }
        try expectError("loftq starts from the error of quantization") {
            $0.initLoraWeights = .loftq
        }
        try expectError("lm_head is not quantized", Case.all[5]) {
            $0.targetModules = .names(["lm_head"])
        }
        try expectError("is without effect: it is for init_lora_weights loftq") {
            $0.loftqIter = 2
        }
        let kasa = Case.all[7]
        try expectError(
            "has a weight of rank 20 at most, but r is 20, and kasa_config leaves", kasa
        ) {
            $0.loraR = 20
        }
        try expectError("is without effect: it is for use_kasa") { $0.kasaBeta = 0.5 }
        try expectError("expected at least 0", kasa) { $0.kasaGamma = -1 }
        try expectError("contradicts use_dora: give one of them", kasa) { $0.useDora = true }
        try expectError("contradicts lora_bias: give one of them", kasa) { $0.loraBias = true }
        try expectError("needs an init_lora_weights that depends on neither", kasa) {
            $0.initLoraWeights = .pissa
        }
    }

    @Test func aBaseInFourBitsIsRefused() throws {
        let run = try makeRun(Case.all[1])
        var options = QuantizeOptions()
        options.model = run.config.model
        options.output = run.workspace.path("quantized")
        options.quantBlockSize = 32
        _ = try Quantize.run(options)
        let error = #expect(throws: AdapterError.self) {
            try run.writing(to: "out") { $0.model = options.output }.run()
        }
        #expect(
            error?.description.contains(
                "is quantized already, so that nothing can be taken from it; give the base in "
                    + "bfloat16, float16 or float32") == true)
    }

    @Test func aBaseThatWasReadOtherwiseIsRefused() throws {
        var config = LoRAConfig(targetModules: .names(["q_proj"]))
        config.initLoraWeights = .pissa
        let options = BaseModelOptions(quantization: nil, computeDType: .float32)
        let plain = try BaseModel(at: URL(filePath: TinyModel.grouped), options: options)
        #expect(throws: TrainingError.otherStart(adapter: "the adapter")) {
            try AdaptedModel(plain, adapter: config, seed: 0)
        }
        let error = #expect(throws: AdapterError.self) {
            try config.attach(to: plain.registry, seed: 0)
        }
        #expect(
            error?.description.contains(
                "init_lora_weights pissa: model.layers.0.self_attn.q_proj was read without this "
                    + "start") == true)
        var divided = options
        divided.start = WeightStart(config, seed: 0)
        let base = try BaseModel(at: URL(filePath: TinyModel.grouped), options: divided)
        config.initLoraWeights = .kaimingUniform
        #expect(throws: TrainingError.otherStart(adapter: "the adapter")) {
            try AdaptedModel(base, adapter: config, seed: 0)
        }
    }
}
