import Foundation
import PEFT
import PEFTTraining
import Testing
import TrainingTestSupport

/// The best evaluation: early stopping, loading it at the end, keeping its checkpoint.
@Suite struct ModelSelectionTests {
    /// A run that overfits at once: a learning rate that is too high for its held-out rows.
    private func makeRun(steps: Int = 12) throws -> TinyRun {
        var run = try TinyRun(rows: TinyRows.make(8), steps: steps)
        let other = (0..<8).map { row in (0..<9).map { 1 + (row * 11 + $0 * $0 * 7) % 29 } }
        run.config.evalData = try run.workspace.write(rows: other, as: "other.jsonl")
        run.config.learningRate = 3e-2
        run.config.evalSteps = 1
        run.config.saveSteps = 0
        return run
    }

    private func evalLosses(_ run: TinyRun) throws -> [Double] {
        try RunFiles.metric("eval_loss", in: run.config.outputDir)
    }

    private func checkpoints(_ run: TinyRun) -> [Int] {
        CheckpointFolder.list(in: URL(filePath: run.config.outputDir)).map(\.step)
    }

    @Test func theBestAdapterIsWritten() throws {
        let run = try makeRun().writing(to: "best") { $0.loadBestModelAtEnd = true }
        let events = try run.run()
        let losses = try evalLosses(run)
        let best = try #require(losses.indices.min { losses[$0] < losses[$1] }) + 1
        #expect(best < 12, "the run overfits")
        #expect(
            try run.adapter
                == RunFiles.adapter(in: run.config.outputDir + "/checkpoint-\(best)"))
        #expect(
            try run.adapter != RunFiles.adapter(in: run.config.outputDir + "/checkpoint-12"))
        #expect(
            events.contains(
                .notice(
                    "the adapter is that of step \(best), where eval_loss was best: "
                        + "\(losses[best - 1])")))
    }

    @Test func patienceEndsTheRun() throws {
        let whole = try makeRun().writing(to: "whole")
        try whole.run()
        let losses = try evalLosses(whole)
        var (best, worse, expected) = (Double.infinity, 0, 12)
        for (index, loss) in losses.enumerated() {
            worse = loss < best ? 0 : worse + 1
            best = min(best, loss)
            if worse == 3 {
                expected = index + 1
                break
            }
        }
        #expect(expected < 12)
        let run = whole.writing(to: "patient") { $0.earlyStoppingPatience = 3 }
        try run.run()
        #expect(try run.losses.count == expected)
        #expect(try evalLosses(run).count == expected)
        // A run that has had enough does not go on when it is resumed.
        let resumed = run.writing(to: "patient") { $0.resume = true }
        try resumed.run()
        #expect(try run.losses.count == expected)
        // With more patience it does.
        let longer = run.writing(to: "patient") {
            $0.resume = true
            $0.earlyStoppingPatience = 100
        }
        try longer.run()
        #expect(try longer.losses == whole.losses)
    }

    @Test func theThresholdIsWhatAnImprovementMustExceed() throws {
        let run = try makeRun().writing(to: "strict") {
            $0.earlyStoppingPatience = 2
            $0.earlyStoppingThreshold = 100
        }
        try run.run()
        // The first evaluation has nothing before it; the two after it do not improve by so much.
        #expect(try run.losses.count == 3)
    }

    @Test func theLimitKeepsTheBest() throws {
        let run = try makeRun().writing(to: "limited") {
            $0.loadBestModelAtEnd = true
            $0.saveSteps = 1
            $0.saveTotalLimit = 1
        }
        try run.run()
        let losses = try evalLosses(run)
        let best = try #require(losses.indices.min { losses[$0] < losses[$1] }) + 1
        #expect(checkpoints(run) == [best, 12])
    }

    @Test func aResumedRunKnowsTheBest() throws {
        let whole = try makeRun().writing(to: "whole") { $0.loadBestModelAtEnd = true }
        try whole.run()
        let stopped = whole.writing(to: "stopped")
        try stopped.run(stopAfter: 9)
        let resumed = stopped.writing(to: "stopped") { $0.resume = true }
        try resumed.run()
        #expect(try resumed.adapterBytes == whole.adapterBytes)
    }

    @Test func metricsThatAreNotThereAreRefused() throws {
        let run = try makeRun().writing(to: "out") {
            $0.loadBestModelAtEnd = true
            $0.metricForBestModel = "accuracy"
        }
        let error = #expect(throws: TrainingError.self) { try run.run() }
        #expect(
            error?.description
                == "metric_for_best_model: no evaluation has eval_accuracy; expected one of "
                + "eval_loss, eval_perplexity")
    }

    /// The metric decides; of a perplexity less is better though it is no loss by name.
    @Test func perplexityAndNamedSetsAreMetrics() throws {
        var run = try makeRun().writing(to: "named") {
            $0.loadBestModelAtEnd = true
            $0.metricForBestModel = "eval_b_loss"
        }
        run.config.evalDataset = [
            "a": run.config.data, "b": try #require(run.config.evalData),
        ]
        run.config.evalData = nil
        let events = try run.run()
        let folder = run.config.outputDir
        let losses = try RunFiles.metric("eval_b_loss", in: folder)
        #expect(losses.count == 12)
        #expect(try RunFiles.metric("eval_a_loss", in: folder).count == 12)
        #expect(try RunFiles.metric("eval_loss", in: folder).isEmpty)
        let best = try #require(losses.indices.min { losses[$0] < losses[$1] }) + 1
        #expect(try run.adapter == RunFiles.adapter(in: folder + "/checkpoint-\(best)"))
        guard case .finished(let summary) = events.last else {
            Issue.record("the run did not finish")
            return
        }
        // The mean over all targets of both files.
        let last = try RunFiles.metrics(in: folder).suffix(2)
        let sums = last.reduce(into: (loss: 0.0, count: 0.0)) { sums, line in
            let name = line["eval_a_loss"] == nil ? "b" : "a"
            let count = line["eval_\(name)_num_target_tokens"]?.doubleValue ?? 0
            sums.loss += (line["eval_\(name)_loss"]?.doubleValue ?? 0) * count
            sums.count += count
        }
        #expect(abs((summary.lastEvalLoss ?? 0) - sums.loss / sums.count) < 1e-12)
    }
}
