import Foundation
import PEFT
import PEFTTraining
import Testing
import TrainingTestSupport

@Suite struct DoctorTests {
    private func check(_ change: (inout FineTuneConfig) throws -> Void = { _ in }) throws
        -> PreflightReport
    {
        var run = try TinyRun()
        try change(&run.config)
        let report = try Doctor.run(run.config)
        #expect(
            try RunFiles.names(in: run.workspace.url.path) == ["rows.jsonl"], "nothing is written")
        return report
    }

    private func failures(_ report: PreflightReport) -> [String] {
        report.checks.filter { $0.outcome == .failed }.flatMap(\.findings)
    }

    @Test func soundRunIsReady() throws {
        let report = try check()
        #expect(report.isReady)
        #expect(
            report.checks.map(\.topic) == [
                "processor", "base model", "rows", "batches", "adapter", "trainable set", "dtypes",
                "resources", "gradients",
            ])
        #expect(
            report.checks.first { $0.topic == "dtypes" }?.findings == [
                "storage dense, compute float32, adapters float32, loss scaling none"
            ])
        let gradients = try #require(report.gradients)
        #expect(gradients.numTensors == 28)
        #expect(gradients.numConnectedTensors == 28)
        #expect(gradients.rows.map(\.module).first == "self_attn.q_proj")
        #expect(gradients.rows.allSatisfy { $0.numConnected == 2 && $0.numLayers == 2 })
        #expect(report.sample?.pieces.map(\.isLearned) == [false, true])
        #expect(try #require(report.loss).isFinite)
    }

    /// Everything that can be found at once is found at once.
    @Test func goesOnAfterAFailure() throws {
        let report = try check { config in
            config.targetModules = .names(["q_prj", "v_proj"])
            config.maxLength = 8
        }
        #expect(!report.isReady)
        let codes = failures(report).map { String($0.prefix(9)) }
        #expect(codes == ["PEFT-L003", "PEFT-T001"])
        #expect(report.checks.filter { $0.outcome == .skipped }.count == 5)
    }

    @Test func diskThatIsTooSmallIsFound() throws {
        let report = try check { config in
            config.saveSteps = 1
            config.maxSteps = 1_000_000_000
        }
        let found = failures(report)
        #expect(found.count == 1)
        #expect(found[0].hasPrefix("PEFT-R001: "))
        #expect(found[0].hasSuffix("or write to another disk with --output-dir"))
        let limited = try check { config in
            config.saveSteps = 1
            config.maxSteps = 1_000_000_000
            config.saveTotalLimit = 2
        }
        #expect(limited.isReady)
    }

    /// The files of an offloaded base have no names and need no output folder.
    @Test func anOffloadedBaseIsCheckedAndNothingIsWritten() throws {
        let report = try check { $0.offload = .base }
        #expect(report.isReady, "\(failures(report))")
    }

    @Test func memoryThatIsTooSmallIsFound() throws {
        let plan = RunPlan(
            numRanks: 1, numTokens: 1000,
            parts: [.init(name: "base", sizeBytes: 600), .init(name: "loss", sizeBytes: 400)],
            sentBytesPerStep: 0)
        let resources = RunResources(plan: plan, adapterBytes: 1, stateBytes: 2, numCheckpoints: 1)
        // The plan may be a tenth too high, and what is held already needs no more room.
        try resources.require(memory: 900, held: 0)
        try resources.require(memory: 500, held: 400)
        let found = try #require(throws: Diagnosis.self) {
            try resources.require(memory: 499, held: 400)
        }
        #expect(found.code == .memoryTooSmall)
        #expect(found.place == "a step of 1000 tokens")
        #expect(try #require(RunResources.availableMemoryBytes()) > 0)
    }

    @Test func baseThatIsNotThereLeavesTheRestUnchecked() throws {
        let report = try check { $0.model = "/no/such/model" }
        #expect(failures(report).count == 1)
        #expect(report.checks.dropFirst(2).allSatisfy { $0.outcome == .skipped })
    }
}
