import Foundation
import PEFT
import PEFTTraining
import TestSupport
import Testing
import TrainingTestSupport

@Suite struct FineTuneTests {
    // MARK: - Learning

    @Test(
        arguments: [BaseQuantization.nf4, .fp4, .none], [ComputeDType.bfloat16, .float32])
    func lossFallsOverThirtySteps(quantize: BaseQuantization, dtype: ComputeDType) throws {
        var run = try TinyRun(steps: 30)
        run.config.quantize = quantize
        run.config.dtype = dtype
        run.config.loraR = 8
        run.config.learningRate = 2e-2
        try run.run()
        let losses = try run.losses
        #expect(losses.count == 30)
        #expect(losses.allSatisfy { $0.isFinite })
        let (first, last) = (losses.prefix(6).reduce(0, +) / 6, losses.suffix(6).reduce(0, +) / 6)
        #expect(last < 0.6 * first, "\(first) to \(last)")
    }

    @Test func heldOutLossFallsAndIsReported() throws {
        var run = try TinyRun(steps: 20)
        run.config.loraR = 8
        run.config.learningRate = 2e-2
        run.config.evalData = try run.workspace.write(
            rows: Array(TinyRows.make(31).suffix(7)), as: "held-out.jsonl")
        run.config.evalOnStart = true
        run.config.evalSteps = 8
        let events = try run.run()
        let evaluations = events.compactMap { event -> EvaluationMetrics? in
            if case .evaluation(let metrics) = event { metrics } else { nil }
        }
        #expect(evaluations.map(\.step) == [0, 8, 16, 20])
        #expect(evaluations[3].evalLoss < 0.8 * evaluations[0].evalLoss)
        let logged = try RunFiles.metrics(in: run.config.outputDir)
            .filter { $0["eval_loss"] != nil }
        #expect(logged == evaluations.map(\.json))
        guard case .finished(let summary) = events.last else {
            Issue.record("the last event is \(String(describing: events.last))")
            return
        }
        #expect(summary.firstEvalLoss == evaluations[0].evalLoss)
        #expect(summary.lastEvalLoss == evaluations[3].evalLoss)
        #expect(summary.trainLoss == (try run.losses.last))
    }

    // MARK: - The same mathematics by other ways

    @Test(arguments: [TinyModel.tied, TinyModel.grouped], [1, 2])
    func recomputationChangesNothing(model: String, interval: Int) throws {
        var plain = try TinyRun(model: model, steps: 5)
        plain.config.quantize = .nf4
        plain.config.loraDropout = 0.2
        let recomputed = plain.writing(to: "recomputed") {
            $0.gradientCheckpointing = true
            $0.gradientCheckpointingInterval = interval
        }
        try plain.run()
        try recomputed.run()
        #expect(try plain.losses == recomputed.losses)
        #expect(try plain.adapterBytes == recomputed.adapterBytes)
    }

    /// Rows of different lengths: a mean of the micro-batches' means would be another loss.
    @Test(arguments: [(1, 6), (2, 3), (3, 2), (4, 2)])
    func accumulationEqualsOneLargeBatch(batchSize: Int, numMicroBatches: Int) throws {
        let rows = TinyRows.make(24, lengths: 2...19)
        let large = try TinyRun(rows: rows, steps: 4).writing(to: "large") {
            $0.perDeviceTrainBatchSize = batchSize * numMicroBatches
        }
        let small = large.writing(to: "small") {
            $0.perDeviceTrainBatchSize = batchSize
            $0.gradientAccumulationSteps = numMicroBatches
        }
        try large.run()
        try small.run()
        try expectEqualRuns(small, large)
    }

    @Test func packedRowsLearnAsRowsOfTheirOwn() throws {
        let rows = TinyRows.make(12, lengths: 2...9)
        let plain = try TinyRun(rows: rows, steps: 4).writing(to: "plain") {
            $0.perDeviceTrainBatchSize = 12
        }
        let packed = plain.writing(to: "packed") {
            $0.packing = true
            $0.maxLength = 32
        }
        try plain.run()
        let events = try packed.run()
        try expectEqualRuns(packed, plain)
        let targets = try RunFiles.metric("num_target_tokens", in: packed.config.outputDir)
        #expect(Set(targets) == [Double(rows.reduce(0) { $0 + $1.count - 1 })])
        #expect(events.contains { if case .finished = $0 { true } else { false } })
    }

    /// Compares losses and adapters that are summed in another order.
    private func expectEqualRuns(_ found: TinyRun, _ expected: TinyRun) throws {
        let (losses, references) = (try found.losses, try expected.losses)
        #expect(losses.count == references.count)
        for (loss, reference) in zip(losses, references) {
            #expect(abs(loss - reference) <= Tolerance.trainingLoss * abs(reference))
        }
        #expect(
            Tolerance.relativeError(try found.adapter, try expected.adapter)
                <= Tolerance.trainedAdapter)
    }

    // MARK: - Repeatability

    @Test func aSeedRepeatsDropoutOrderAndAdapter() throws {
        var first = try TinyRun(steps: 4)
        first.config.loraDropout = 0.3
        let again = first.writing(to: "again")
        let other = first.writing(to: "other") { $0.seed = 7 }
        let dry = first.writing(to: "dry") { $0.loraDropout = 0 }
        for run in [first, again, other, dry] { try run.run() }
        #expect(try first.losses == again.losses)
        #expect(try first.adapterBytes == again.adapterBytes)
        #expect(try first.losses != other.losses)
        // B is zero before the first update, so dropout shows from the second loss on.
        #expect(try first.losses[0] == dry.losses[0])
        #expect(try first.losses[1...] != dry.losses[1...])
    }

    // MARK: - Steps and metrics

    @Test func withoutShufflingStepsTakeRowsInTheFilesOrder() throws {
        let rows = TinyRows.make(8, lengths: 2...9)
        let run = try TinyRun(rows: rows, steps: 5).writing(to: "ordered") {
            $0.shuffle = false
            $0.perDeviceTrainBatchSize = 1
            $0.gradientAccumulationSteps = 3
        }
        try run.run()
        let counts = rows.map { $0.count - 1 }
        // Eight rows in steps of three: the third step has two, then the file begins again.
        let expected = [0..<3, 3..<6, 6..<8, 0..<3, 3..<6].map { counts[$0].reduce(0, +) }
        let found = try RunFiles.metric("num_target_tokens", in: run.config.outputDir)
        #expect(found == expected.map { Double($0) })
    }

    @Test func metricsHaveExactlyTheirKeys() throws {
        var run = try TinyRun(steps: 5)
        run.config.loggingSteps = 2
        let events = try run.run()
        let lines = try RunFiles.metrics(in: run.config.outputDir)
        #expect(lines.map { $0["step"] } == [2, 4, 5])
        for line in lines {
            #expect(
                line.keys == [
                    "step", "loss", "grad_norm", "learning_rate", "num_target_tokens",
                    "tokens_per_second", "peak_memory_bytes",
                ])
            #expect((line["tokens_per_second"]?.doubleValue ?? 0) > 0)
            #expect((line["peak_memory_bytes"]?.intValue ?? 0) > 0)
            #expect((line["grad_norm"]?.doubleValue ?? 0) > 0)
        }
        let steps = events.compactMap { event -> (StepMetrics, Bool)? in
            if case .step(let metrics, let isLogged) = event { (metrics, isLogged) } else { nil }
        }
        #expect(steps.map(\.0.step) == [1, 2, 3, 4, 5])
        #expect(steps.filter(\.1).map(\.0.json) == lines)
    }

    /// The loss of a step is that of its rows under the adapter of the step before.
    @Test func lossIsTheMeanOfTheStepsTargetsBeforeItsUpdate() throws {
        let rows = TinyRows.make(9)
        let run = try TinyRun(rows: rows, steps: 3).writing(to: "out") {
            $0.shuffle = false
            $0.quantize = .nf4
            $0.saveSteps = 1
            $0.perDeviceTrainBatchSize = 2
            $0.gradientAccumulationSteps = 2
        }
        try run.run()
        let losses = try run.losses
        // Steps of four rows: 0..<4, 4..<8, and 8 alone.
        for (step, range) in [0..<4, 4..<8, 8..<9].enumerated() {
            var options = ScoreOptions()
            options.model = run.config.model
            options.dtype = .float32
            options.data = try run.workspace.write(rows: Array(rows[range]), as: "step.jsonl")
            if step > 0 { options.adapter = "\(run.config.outputDir)/checkpoint-\(step)" }
            let score = try Score.run(options)
            #expect(abs(losses[step] - score.loss) <= Tolerance.trainingLoss * score.loss)
        }
    }

    @Test func clippingScalesTheUpdateAndNotTheReportedNorm() throws {
        // The first update of plain SGD-like size would be hidden by Adam, so epsilon is made to dominate.
        func run(_ name: String, maxGradNorm: Double) throws -> TinyRun {
            let run = try TinyRun(steps: 1).writing(to: name) {
                $0.maxGradNorm = maxGradNorm
                $0.adamEpsilon = 1e6
                $0.learningRate = 1e6
            }
            try run.run()
            return run
        }
        let free = try run("free", maxGradNorm: 0)
        let norm = try #require(try RunFiles.metric("grad_norm", in: free.config.outputDir).first)
        let clipped = try run("clipped", maxGradNorm: norm / 4)
        let loose = try run("loose", maxGradNorm: norm * 4)
        #expect(try RunFiles.metric("grad_norm", in: clipped.config.outputDir) == [norm])
        #expect(try RunFiles.metric("grad_norm", in: loose.config.outputDir) == [norm])
        #expect(try free.adapterBytes == loose.adapterBytes)
        let updateSize = { (run: TinyRun) in try self.sizeOfB(run) }
        #expect(abs(try updateSize(clipped) / updateSize(free) - 0.25) < 1e-3)
    }

    /// The norm of all B matrices, which start at zero.
    private func sizeOfB(_ run: TinyRun) throws -> Double {
        let file = try SafetensorsFile(
            URL(filePath: run.config.outputDir + "/adapter_model.safetensors"))
        let squares = try file.entries.filter { $0.name.contains("lora_B") }
            .flatMap { try file.tensor($0).floats() }
        return squares.reduce(0.0) { $0 + Double($1) * Double($1) }.squareRoot()
    }

    @Test func scheduleAndWarmUpAreThoseOfTheConfig() throws {
        let run = try TinyRun(steps: 6).writing(to: "out") {
            $0.lrSchedulerType = .cosine
            $0.warmupSteps = 2
        }
        try run.run()
        let schedule = LearningRateSchedule(
            peak: run.config.learningRate, kind: .cosine, warmupSteps: 2, totalSteps: 6)
        let found = try RunFiles.metric("learning_rate", in: run.config.outputDir)
        #expect(found == (0..<6).map { schedule.learningRate(updatesDone: $0) })
        #expect(found[0] == 0)
        #expect(found[2] == run.config.learningRate)
    }

    @Test func epochsDecideTheNumberOfSteps() throws {
        let run = try TinyRun(rows: TinyRows.make(10)).writing(to: "out") {
            $0.maxSteps = -1
            $0.numTrainEpochs = 1.5
        }
        try run.run()
        #expect(try run.losses.count == 5)  // three steps an epoch
    }
}
