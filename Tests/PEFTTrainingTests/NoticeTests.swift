import Foundation
import PEFT
import PEFTTraining
import Testing
import TrainingTestSupport

/// What a run says in words though it is no error.
@Suite struct NoticeTests {
    private func notices(_ run: TinyRun) throws -> [String] {
        try run.run().compactMap { event in
            if case .notice(let text) = event { text } else { nil }
        }
    }

    @Test func ordinaryRunHasNothingToSay() throws {
        #expect(try notices(TinyRun(steps: 2)).isEmpty)
    }

    @Test func anotherEndOnResumeIsSaid() throws {
        var run = try TinyRun(steps: 6)
        run.config.lrSchedulerType = .linear
        try run.run(stopAfter: 2)
        run.config.resume = true
        run.config.maxSteps = 4
        #expect(
            try notices(run) == [
                "the run was planned to end at step 6, now at 4: a schedule that decays goes on "
                    + "differently from here"
            ])
    }

    @Test func settingsThatAStartingAdapterOverridesAreNamed() throws {
        let first = try TinyRun(steps: 2)
        try first.run()
        let second = first.writing(to: "second") { $0.adapter = first.config.outputDir }
        #expect(
            try notices(second) == [
                "rank, alpha, dropout and targets are those of the adapter to start from, not of the "
                    + "lora_* and *_modules settings"
            ])
    }

    @Test func rowsBeyondTheTrainedPositionsAreSaid() throws {
        let workspace = try Workspace()
        let model = try TinyModel.write(to: workspace.url.appending(path: "model"))
        var run = try TinyRun(rows: [(0..<300).map { 1 + $0 % 30 }], model: model, steps: 1)
        run.config.perDeviceTrainBatchSize = 1
        #expect(
            try notices(run) == [
                "rows of up to 300 tokens, but the model was trained on 256 positions"
            ])
    }
}
