import Foundation
import PEFT
import PEFTTraining
import Testing
import TrainingTestSupport

/// Adds a trainable shift; its use in training differs from that in the check before it.
private final class FadingAdapter: LinearAdapter {
    let parameters: [Parameter]
    private let share: Double

    /// Multiplies the shift by `share` in training.
    init(_ linear: Linear, share: Double) throws {
        self.share = share
        parameters = [
            try Parameter(
                path: linear.path + ".shift", value: .zeros([linear.weight.outFeatures]),
                isTrainable: true)
        ]
    }

    func apply(
        to input: Tensor, baseOutput: Tensor, weight: any LinearWeight, context: ForwardContext
    ) throws(TorchError) -> Tensor {
        try baseOutput + parameters[0].value * (context.dropout == nil ? 1 : share)
    }

    func changesNothing() -> Bool { false }
}

@Suite struct TrainingMonitorTests {
    private let batch = TokenBatch([
        TokenSequence(
            tokens: [3, 1, 4, 1, 5], isTarget: [Bool](repeating: true, count: 5), row: 0)
    ])

    /// Trains a model whose shifts count for a share in each block, and collects what is found.
    private func findings(
        shares: [Double], learningRate: Double = 0.1, steps: Int = 3
    ) throws -> [Diagnosis] {
        let base = try BaseModel(
            at: URL(filePath: TinyModel.tied),
            options: BaseModelOptions(quantization: nil, computeDType: .float32))
        for (unit, share) in zip(base.model.units, shares) {
            for linear in unit.linears where linear.path.hasSuffix("down_proj") {
                linear.attach(try FadingAdapter(linear, share: share))
            }
        }
        var config = LoRAConfig()
        config.r = 2
        config.targetModules = .names(["lm_head"])
        let adapted = try AdaptedModel(base, adapter: config, seed: 1)
        let ready = try ReadyModel(checking: ShardedModel(adapted), sample: batch)
        var monitor = try TrainingMonitor(ready)
        let step = try TrainStep(
            ready, optimizer: try Optimizer(ready, rule: AdamW()),
            schedule: LearningRateSchedule(
                peak: learningRate, kind: .constant, warmupSteps: 0, totalSteps: 9),
            maxGradNorm: 1, seed: 1)
        var found: [Diagnosis] = []
        for number in 0..<steps {
            found += monitor.add(try step(step: number, microBatches: [batch]))
        }
        return try found + monitor.look()
    }

    @Test func soundTrainingHasNoFindings() throws {
        #expect(try findings(shares: [1, 1]).isEmpty)
    }

    @Test func blockWithoutGradientIsReportedOnce() throws {
        let found = try findings(shares: [1, 1e-9])
        #expect(found.map(\.code) == [.gradientVanishes])
        #expect(found[0].place == "model.layers.1")
    }

    /// The factor is zero: every step's gradient is, too, and the tensor stays.
    @Test func tensorThatStandsStillIsReported() throws {
        let found = try findings(shares: [0, 1])
        #expect(found.map(\.code) == [.gradientVanishes, .tensorStandsStill])
        #expect(found[0].place == "model.layers.0")
        #expect(found[1].tensors == ["model.layers.0.mlp.down_proj.shift"])
        #expect(found[1].reason == "3 updates have not changed it by a bit")
    }

    /// In one update `lora_A` rightly stands still.
    @Test func oneUpdateIsTooFewToTell() throws {
        #expect(try findings(shares: [1, 1], steps: 1).isEmpty)
    }

    @Test func lossOfTheBaseIsReported() throws {
        let found = try findings(shares: [1, 1], learningRate: 1e-30)
        #expect(found.map(\.code) == [.tensorStandsStill, .lossOfTheBase])
        #expect(found[1].reason.contains("after 3 updates"))
    }

    @Test func withoutAdaptersTheModelIsItsBase() throws {
        let options = BaseModelOptions(
            quantization: QuantizationConfig(), computeDType: .float32)
        let base = try BaseModel(at: URL(filePath: TinyModel.tied), options: options)
        let adapted = try BaseModel(at: URL(filePath: TinyModel.tied), options: options)
        var config = LoRAConfig()
        config.initLoraWeights = .random
        config.targetModules = .names(["q_proj", "lm_head"])
        _ = try AdaptedModel(adapted, adapter: config, seed: 1)
        func losses(_ model: BaseModel, usesAdapters: Bool) throws -> [Float] {
            let context = ForwardContext(
                layout: SequenceLayout(segmentLengths: [5]), usesAdapters: usesAdapters)
            return try model.model.losses(
                tokens: batch.tokens, targets: batch.targets, context: context,
                execution: ResidentExecution()
            ).perTarget.floats()
        }
        let expected = try losses(base, usesAdapters: true)
        #expect(try losses(adapted, usesAdapters: false) == expected)
        #expect(try losses(adapted, usesAdapters: true) != expected)
    }

    // MARK: - Runs

    @Test func runReportsWhatTheMonitorFinds() throws {
        var run = try TinyRun(steps: 4)
        run.config.learningRate = 1e-30
        var warnings: [Diagnosis] = []
        try FineTune.run(run.config) { event in
            if case .warning(let found) = event { warnings.append(found) }
        }
        #expect(warnings.map(\.code) == [.tensorStandsStill, .lossOfTheBase])
        #expect(warnings[0].tensors.allSatisfy { $0.contains("lora_A") }, "B starts at zero")
    }

    /// The base overflows on one token: steps with it are left out, the others train as if they were not there.
    @Test func stepsThatAreNotFiniteAreLeftOut() throws {
        var rows = TinyRows.make(24)
        rows[5][2] = 40
        var run = try TinyRun(rows: rows, steps: 6)
        run.config.model = try TinyModel.grouped(damagedAt: 40, in: run.workspace)
        run.config.shuffle = false
        let stopped = try #require(throws: Diagnosis.self) { try run.run() }
        #expect(stopped.code == .lossNotFinite)
        #expect(stopped.place == "step 2, row 6, `embedding` in model.embed_tokens")

        let skipping = run.writing(to: "skipping") { $0.onNonFinite = .skip }
        let events = try skipping.run()
        let warnings = events.compactMap { event -> Diagnosis? in
            if case .warning(let found) = event { found } else { nil }
        }
        #expect(warnings == [stopped])
        let metrics = try RunFiles.metrics(in: skipping.config.outputDir)
        #expect(metrics.map { $0["step"]?.intValue } == [1, 2, 3, 4, 5, 6])
        #expect(metrics[1]["skipped"]?.stringValue == "PEFT-N002")
        #expect(try skipping.losses.count == 5)

        let resumed = run.writing(to: "resumed") { $0.onNonFinite = .skip }
        try resumed.run(stopAfter: 3)
        var rest = resumed
        rest.config.resume = true
        try rest.run()
        #expect(try rest.losses == skipping.losses)
        #expect(try rest.adapterBytes == skipping.adapterBytes)
    }

    @Test func tooManyStepsLeftOutEndTheRun() throws {
        var rows = TinyRows.make(60)
        for row in 4..<60 { rows[row][1] = 40 }
        var run = try TinyRun(rows: rows, steps: 14)
        run.config.model = try TinyModel.grouped(damagedAt: 40, in: run.workspace)
        run.config.shuffle = false
        run.config.onNonFinite = .skip
        let stopped = try #require(throws: Diagnosis.self) { try run.run() }
        #expect(stopped.place.hasPrefix("step 11, row "))
        #expect(try RunFiles.metrics(in: run.config.outputDir).count == 10)
    }
}
