import Foundation
import PEFT
import PEFTTraining
import TestSupport
import Testing
import TrainingTestSupport

/// SmolLM2-135M, where `make model` has fetched it.
@Suite(
    .serialized,
    .enabled(
        if: FileManager.default.fileExists(atPath: Checkout.demoModel.path),
        "the demo model is not there; `make model` fetches it"))
struct DemoModelTests {
    @Test func answersAQuestionInFourBits() throws {
        var options = GenerateOptions()
        options.model = Checkout.demoModel.path
        options.prompt = "What is the capital of France?"
        options.chat = true
        options.maxNewTokens = 12
        options.threads = 1
        var streamed = ""
        let report = try Generate.run(options) { streamed += $0 }
        #expect(report.text.contains("Paris"), "\(report.text)")
        #expect(streamed == report.text)
        #expect(report.prompt == options.prompt)
        #expect(report.numNewTokens <= 12)
    }

    @Test func heldOutLossFallsInAFewSteps() throws {
        let workspace = try Workspace()
        func head(_ name: String, _ count: Int) throws -> String {
            let url = Checkout.root.appending(path: "Examples/wordnet/\(name)")
            let lines = try String(contentsOf: url, encoding: .utf8).split(separator: "\n")
            return try workspace.write(
                lines.prefix(count).joined(separator: "\n") + "\n", as: name)
        }
        var config = FineTuneConfig(
            model: Checkout.demoModel.path, data: try head("train.jsonl", 18),
            outputDir: workspace.path("out"))
        config.evalData = try head("eval.jsonl", 6)
        config.evalOnStart = true
        config.assistantOnlyLoss = true
        config.loraR = 8
        config.loraAlpha = 16
        config.learningRate = 2e-3
        config.lrSchedulerType = .constant
        config.perDeviceTrainBatchSize = 6
        config.maxSteps = 3
        config.threads = 1
        let summary = try #require(try FineTune.run(config))
        let (first, last) = (
            try #require(summary.firstEvalLoss), try #require(summary.lastEvalLoss)
        )
        #expect(last < first - 0.3, "\(first) to \(last)")
    }
}
