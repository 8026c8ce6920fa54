import Foundation
import PEFT
import PEFTTraining
import Testing
import TrainingTestSupport

/// Runs of adapters that rows activate: what they refuse rather than train nothing.
@Suite struct ActivatedRunTests {
    private static let rows: [[Int]] = TinyRows.make(8).map { Array($0.prefix(3)) + [33, 34] + $0 }

    private func makeRun(rows: [[Int]] = rows) throws -> TinyRun {
        try TinyRun(rows: rows, model: TinyModel.grouped).writing(to: "out") {
            $0.aloraInvocationTokens = [33, 34]
        }
    }

    @Test(arguments: [
        // Without it; the beginning of it; its tokens apart.
        [5, 6, 7, 8], [5, 6, 7, 33], [34, 33, 35, 34],
    ])
    func aRowThatDoesNotActivateIsRefused(row: [Int]) throws {
        var rows = Self.rows
        rows[2] = row
        let error = #expect(throws: TrainingError.self) { try makeRun(rows: rows).run() }
        #expect(
            error?.description == """
                row 3: expected the tokens [33, 34] of alora_invocation_tokens and a target after their last \
                occurrence, found none, so the adapter would learn nothing of the row; add them before what is to be \
                learned, or remove the row
                """)
    }

    @Test func recomputedAndSplitStepsLearnTheSame() throws {
        let whole = try makeRun().writing(to: "whole") { $0.maxGradNorm = 0 }
        try whole.run()
        let recomputed = whole.writing(to: "recomputed") { $0.gradientCheckpointing = true }
        try recomputed.run()
        #expect(try recomputed.losses == whole.losses)
        #expect(try recomputed.adapter == whole.adapter)
        let packed = whole.writing(to: "packed") { $0.packing = true }
        try packed.run()
        #expect(try packed.losses.last != packed.losses.first)
    }

    @Test func optionsThatContradictAreRefused() throws {
        let run = try makeRun()
        for (change, reason) in [
            ({ $0.sharePrefixes = true }, "contradicts share_prefixes"),
            ({ $0.useDora = true }, "contradicts use_dora"),
            ({ $0.loraBias = true }, "contradicts lora_bias"),
            ({ $0.initLoraWeights = .pissa }, "needs an init_lora_weights that takes nothing out"),
            ({ $0.targetParameters = ["experts.down_proj"] }, "contradicts target_parameters"),
            ({ $0.aloraInvocationTokens = [] }, "is empty"),
            ({ $0.aloraInvocationTokens = [-1] }, "expected tokens from 0, found -1"),
        ] as [((inout FineTuneConfig) -> Void, String)] {
            var config = run.config
            change(&config)
            let error = #expect(throws: ConfigError.self) { try config.validate() }
            #expect(
                error?.description.contains("alora_invocation_tokens: \(reason)") == true,
                "\(reason)")
        }
    }

    @Test func anAdapterToStartFromDoesNotShareBeginnings() throws {
        let run = try makeRun()
        try run.run()
        let second = run.writing(to: "second") {
            $0.aloraInvocationTokens = nil
            $0.adapter = run.config.outputDir
            $0.sharePrefixes = true
        }
        let error = #expect(throws: TrainingError.self) { try second.run() }
        #expect(error == .prefixesAreActivated)
        try second.writing(to: "third") { $0.sharePrefixes = false }.run()
    }

    @Test func itIsNeitherMergedNorWrittenForLlamaCpp() throws {
        let run = try makeRun()
        try run.run()
        var merge = MergeOptions()
        merge.model = run.config.model
        merge.adapter = run.config.outputDir
        merge.output = run.workspace.path("merged")
        merge.threads = 1
        let error = #expect(throws: MergeError.self) { try Merge.run(merge) }
        #expect(
            error?.description.contains("ActivatedLoRA is more than a change of the weight") == true
        )
        #expect(!FileManager.default.fileExists(atPath: merge.output))
        var export = ExportOptions()
        export.model = TinyModel.grouped
        export.adapter = run.config.outputDir
        export.output = run.workspace.path("adapter.gguf")
        let refusal = #expect(throws: MergeError.self) { try Export.run(export) }
        #expect(
            refusal?.description.contains("ActivatedLoRA is more than a change of the weight")
                == true
        )
        #expect(!FileManager.default.fileExists(atPath: export.output))
    }
}
