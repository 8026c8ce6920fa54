import Foundation
import PEFT
import PEFTTraining
import TestSupport
import Testing
import TrainingTestSupport

@Suite struct ResumeTests {
    /// Everything that draws random numbers or carries state over a step.
    private func makeRun(steps: Int = 9) throws -> TinyRun {
        try TinyRun(rows: TinyRows.make(23, lengths: 2...11), steps: steps).writing(to: "whole") {
            $0.quantize = .nf4
            $0.loraDropout = 0.2
            $0.packing = true
            $0.maxLength = 24
            $0.perDeviceTrainBatchSize = 1
            $0.gradientAccumulationSteps = 3
            $0.lrSchedulerType = .cosine
            $0.warmupSteps = 2
            $0.weightDecay = 0.01
        }
    }

    @Test(arguments: [ComputeDType.float32, .bfloat16], [1, 4, 9])
    func aStoppedRunGoesOnBitExactly(dtype: ComputeDType, stop: Int) throws {
        var whole = try makeRun()
        whole.config.dtype = dtype
        try whole.run()
        let stopped = whole.writing(to: "stopped")
        let events = try stopped.run(stopAfter: stop)
        #expect(events.last == .interrupted(signal: "SIGTERM", step: stop))
        #expect(
            try RunFiles.names(in: stopped.config.outputDir)
                == ["checkpoint-\(stop)", "metrics.jsonl"])
        let resumed = stopped.writing(to: "stopped") { $0.resume = true }
        try resumed.run()
        #expect(
            try RunFiles.repeatableMetrics(in: resumed.config.outputDir)
                == RunFiles.repeatableMetrics(in: whole.config.outputDir))
        #expect(try resumed.adapterBytes == whole.adapterBytes)
        for name in ["optimizer.safetensors", "run_state.json", "adapter_config.json"] {
            #expect(
                try RunFiles.bytes("\(resumed.config.outputDir)/checkpoint-9/\(name)")
                    == RunFiles.bytes("\(whole.config.outputDir)/checkpoint-9/\(name)"), "\(name)")
        }
    }

    @Test func aRunMayBeStoppedManyTimes() throws {
        let whole = try makeRun(steps: 6)
        try whole.run()
        var stopped = whole.writing(to: "stopped")
        try stopped.run(stopAfter: 1)
        stopped.config.resume = true
        for step in 2...5 { try stopped.run(stopAfter: step) }
        try stopped.run()
        #expect(try stopped.losses == whole.losses)
        #expect(try stopped.adapterBytes == whole.adapterBytes)
    }

    @Test func resumingDropsMetricsThatCameAfterTheCheckpoint() throws {
        let whole = try makeRun(steps: 7)
        try whole.run()
        let killed = whole.writing(to: "killed") { $0.saveSteps = 3 }
        try killed.run(stopAfter: 5)
        // As if the process had been killed after step 5, in the middle of a line.
        let folder = killed.config.outputDir
        try FileManager.default.removeItem(atPath: folder + "/checkpoint-5")
        let log = try String(contentsOfFile: folder + "/metrics.jsonl", encoding: .utf8)
        try killed.workspace.write(log + "{\"step\": 6, \"lo", as: "killed/metrics.jsonl")
        let resumed = killed.writing(to: "killed") { $0.resume = true }
        let events = try resumed.run()
        let steps = events.compactMap { event -> Int? in
            if case .step(let metrics, _) = event { metrics.step } else { nil }
        }
        #expect(steps == [4, 5, 6, 7])
        #expect(
            try RunFiles.repeatableMetrics(in: folder)
                == RunFiles.repeatableMetrics(in: whole.config.outputDir))
        #expect(try resumed.adapterBytes == whole.adapterBytes)
    }

    @Test func resumingAFinishedRunChangesNothing() throws {
        var run = try makeRun(steps: 3)
        run.config.evalData = run.config.data
        run.config.evalOnStart = true
        let first = try run.run()
        let log = try RunFiles.bytes(run.config.outputDir + "/metrics.jsonl")
        let bytes = try run.adapterBytes
        run.config.resume = true
        let second = try run.run()
        #expect(try RunFiles.bytes(run.config.outputDir + "/metrics.jsonl") == log)
        #expect(try run.adapterBytes == bytes)
        guard case .finished(let before) = first.last, case .finished(let after) = second.last
        else {
            Issue.record("a run did not finish")
            return
        }
        #expect(after.step == before.step)
        #expect(after.trainLoss == before.trainLoss)
        #expect(after.firstEvalLoss == before.firstEvalLoss)
        #expect(after.lastEvalLoss == before.lastEvalLoss)
    }

    @Test func resumingWithoutCheckpointStartsAtTheBeginning() throws {
        let whole = try makeRun(steps: 2)
        try whole.run()
        let resumed = whole.writing(to: "resumed") { $0.resume = true }
        let events = try resumed.run()
        #expect(
            events.first
                == .notice(
                    "\(resumed.config.outputDir) has no checkpoint yet: starting at step 0"))
        #expect(try resumed.adapterBytes == whole.adapterBytes)
    }

    // MARK: - Refusals

    @Test func changedSettingsAreRefusedByName() throws {
        let run = try makeRun()
        try run.run(stopAfter: 2)
        let changed = run.writing(to: "whole") {
            $0.resume = true
            $0.loraR = 8
            $0.learningRate = 1e-3
            $0.shuffle = false
            $0.targetModules = .names(["q_proj"])
        }
        let error = #expect(throws: TrainingError.self) { try changed.run() }
        #expect(
            error?.description == """
                \(run.config.outputDir)/checkpoint-2: cannot resume, these settings change the \
                mathematics of the run: learning_rate: expected 0.005, found 0.001, lora_r: expected \
                4, found 8, shuffle: expected true, found false, target_modules: expected \
                all-linear, found [q_proj]; use the same settings, or another output_dir
                """)
        #expect(try run.losses.count == 2, "a refused run leaves the metrics as they are")
    }

    @Test func changedRowsAreRefused() throws {
        let run = try makeRun()
        try run.run(stopAfter: 2)
        var rows = TinyRows.make(23, lengths: 2...11)
        rows[20][1] += 1
        let changed = run.writing(to: "whole") { $0.resume = true }
        try run.workspace.write(rows: rows)
        let error = #expect(throws: TrainingError.self) { try changed.run() }
        #expect(
            error?.description == """
                \(run.config.outputDir)/checkpoint-2: cannot resume, these settings change the \
                mathematics of the run: data: expected the same rows, found other rows; use the same \
                settings, or another output_dir
                """)
    }

    /// The adapter that a run began with goes on, whatever the flags for new adapters say.
    @Test func theAdapterOfTheCheckpointGoesOn() throws {
        let start = try TinyRun(steps: 1).writing(to: "start") {
            $0.loraAlpha = 64
            $0.useRslora = true
        }
        try start.run()
        let whole = start.writing(to: "whole") {
            $0.loraAlpha = 8
            $0.useRslora = false
            $0.adapter = start.config.outputDir
            $0.maxSteps = 4
        }
        try whole.run()
        let stopped = whole.writing(to: "stopped")
        try stopped.run(stopAfter: 2)
        let resumed = stopped.writing(to: "stopped") {
            $0.adapter = nil
            $0.resume = true
        }
        try resumed.run()
        #expect(try resumed.losses == whole.losses)
        #expect(try resumed.adapterBytes == whole.adapterBytes)
        #expect(
            try RunFiles.bytes(resumed.config.outputDir + "/adapter_config.json")
                == RunFiles.bytes(whole.config.outputDir + "/adapter_config.json"))
    }

    @Test func aNewRunDoesNotReplaceAnother() throws {
        let run = try TinyRun(steps: 2)
        try run.run()
        let before = try run.adapterBytes
        let error = #expect(throws: TrainingError.self) { try run.run() }
        #expect(error == .outputExists(folder: run.config.outputDir))
        #expect(try run.adapterBytes == before)
    }

    @Test func overwritingReplacesTheRun() throws {
        let run = try TinyRun(steps: 3)
        try run.run()
        let other = run.writing(to: "out") {
            $0.overwriteOutputDir = true
            $0.maxSteps = 2
            $0.seed = 3
        }
        try other.run()
        #expect(try other.losses.count == 2)
        #expect(
            try RunFiles.names(in: run.config.outputDir) == [
                "README.md", "adapter_config.json", "adapter_model.safetensors", "checkpoint-2",
                "metrics.jsonl",
            ])
    }

    /// A mistake in a new run's settings does not cost the run that it was to replace.
    @Test func overwritingKeepsTheOldRunUntilTheNewOneCanStart() throws {
        let run = try TinyRun(steps: 2)
        try run.run()
        let before = try RunFiles.names(in: run.config.outputDir)
        let mistaken = run.writing(to: "out") {
            $0.overwriteOutputDir = true
            $0.targetModules = .names(["q_prj"])
        }
        #expect(throws: AdapterError.self) { try mistaken.run() }
        #expect(try RunFiles.names(in: run.config.outputDir) == before)
    }

    @Test func onlyTheNewestCheckpointsAreKept() throws {
        let run = try TinyRun(steps: 7).writing(to: "out") {
            $0.saveSteps = 2
            $0.saveTotalLimit = 2
        }
        try run.run()
        #expect(
            CheckpointFolder.list(in: URL(filePath: run.config.outputDir)).map(\.step) == [6, 7])
    }
}
