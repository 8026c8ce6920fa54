import Foundation
import PEFT
import PEFTTraining
import TestSupport
import Testing
import TrainingTestSupport

/// Runs that train more than two matrices a layer: what is written, read again, resumed, and divided.
@Suite struct LoRAVariantRunTests {
    /// Options, a model, and the ends of names that the file then has.
    struct Case: Sendable, CustomTestStringConvertible {
        let testDescription: String
        var model = TinyModel.tied
        var rows = TinyRows.make(24)
        let change: @Sendable (inout FineTuneConfig) -> Void
        let names: [String]

        static let all = [
            Case(
                testDescription: "DoRA",
                change: {
                    $0.useDora = true
                    $0.loraDropout = 0.2
                }, names: ["q_proj.lora_magnitude_vector", "down_proj.lora_A.weight"]),
            Case(
                testDescription: "DoRA on both ends",
                change: {
                    $0.useDora = true
                    $0.targetModules = .names(["embed_tokens", "q_proj", "lm_head"])
                },
                names: [
                    "embed_tokens.lora_embedding_A", "embed_tokens.lora_magnitude_vector",
                    "lm_head.lora_magnitude_vector",
                ]),
            Case(
                testDescription: "biases", model: TinyModel.biased,
                change: {
                    $0.loraBias = true
                    $0.bias = .all
                    $0.targetModules = .names(["q_proj"])
                },
                names: ["q_proj.lora_B.bias", "q_proj.base_layer.bias", "down_proj.bias"]),
            Case(
                testDescription: "activated", model: TinyModel.grouped,
                rows: TinyRows.make(24).enumerated().map { index, row in
                    Array(row.prefix(index % 4 + 1)) + [33, 34] + row
                },
                change: {
                    $0.aloraInvocationTokens = [33, 34]
                    $0.loraDropout = 0.2
                }, names: ["q_proj.lora_A.weight", "down_proj.lora_B.weight"]),
            Case(
                testDescription: "modules", model: TinyModel.grouped,
                change: { $0.modulesToSave = ["norm", "lm_head"] },
                names: ["model.norm.weight", "input_layernorm.weight", "lm_head.weight"]),
            Case(
                testDescription: "modules, kept tied",
                change: {
                    $0.modulesToSave = ["embed_tokens"]
                    $0.ensureWeightTying = true
                }, names: ["embed_tokens.weight", "lm_head.weight"]),
            Case(
                testDescription: "tokens",
                change: { $0.trainableTokenIndices = .embedding([3, 7]) },
                names: ["embed_tokens.token_adapter.trainable_tokens_delta"]),
            Case(
                testDescription: "tokens of two layers", model: TinyModel.grouped,
                change: {
                    $0.trainableTokenIndices = .layers(["embed_tokens": [3], "lm_head": [5, 7]])
                },
                names: [
                    "embed_tokens.token_adapter.trainable_tokens_delta",
                    "lm_head.token_adapter.trainable_tokens_delta",
                ]),
        ]
    }

    private func makeRun(_ choice: Case, steps: Int = 4) throws -> TinyRun {
        try TinyRun(rows: choice.rows, model: choice.model, steps: steps).writing(to: "whole") {
            choice.change(&$0)
            $0.weightDecay = 0.01
        }
    }

    @Test(arguments: Case.all)
    func theFolderHoldsWhatWasTrainedAndScoresTheSame(choice: Case) throws {
        var run = try makeRun(choice)
        run.config.evalData = run.config.data
        let events = try run.run()
        let file = try SafetensorsFile(
            URL(filePath: run.config.outputDir + "/adapter_model.safetensors"))
        for name in choice.names {
            #expect(file.entries.contains { $0.name.hasSuffix(name) }, "\(name)")
        }
        guard case .finished(let summary) = events.last else {
            Issue.record("the run did not finish")
            return
        }
        var options = ScoreOptions()
        options.model = run.config.model
        options.quantize = .none
        options.dtype = .float32
        options.data = run.config.data
        let base = try Score.run(options).loss
        options.adapter = "\(run.config.outputDir)"
        #expect(try Score.run(options).loss == summary.lastEvalLoss)
        #expect(base != summary.lastEvalLoss)
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
    }

    /// A base that is brought into memory block by block, and blocks that are computed again; without clipping, whose norm is
    /// summed otherwise.
    @Test(arguments: Case.all, [BaseQuantization.none, .nf4])
    func anOffloadedBaseIsTheSameRun(choice: Case, quantize: BaseQuantization) throws {
        let whole = try makeRun(choice).writing(to: "whole") {
            $0.quantize = quantize
            $0.maxGradNorm = 0
        }
        try whole.run()
        let offloaded = whole.writing(to: "offloaded") {
            $0.offload = .base
            $0.gradientCheckpointing = true
        }
        try offloaded.run()
        #expect(try offloaded.losses == whole.losses)
        #expect(try offloaded.adapter == whole.adapter)
    }

    @Test(arguments: Case.all)
    func bfloat16AndFourBitsLearn(choice: Case) throws {
        let run = try makeRun(choice, steps: 12).writing(to: "out") {
            $0.quantize = .nf4
            $0.dtype = .bfloat16
        }
        try run.run()
        let losses = try run.losses
        #expect(losses.suffix(3).reduce(0, +) < losses.prefix(3).reduce(0, +))
    }
}
