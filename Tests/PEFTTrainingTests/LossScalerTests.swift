import Foundation
import PEFT
import PEFTTraining
import TestSupport
import Testing
import TrainingTestSupport

@Suite struct LossScalerTests {
    @Test func noScalingNeedsNoScaler() {
        #expect(LossScaler(.none) == nil)
    }

    @Test func overflowHalvesADynamicScale() throws {
        let scaler = try #require(LossScaler(.dynamic))
        #expect(scaler.scale == 65536)
        scaler.update(hasOverflowed: false)
        scaler.update(hasOverflowed: true)
        #expect(scaler.scale == 32768)
        #expect(scaler.state.growthTracker == 0)
    }

    /// As torch's `_amp_update_scale_`: the interval is counted anew after an overflow and after growth.
    @Test func scaleDoublesAfterTwoThousandStepsInARow() throws {
        let scaler = try #require(LossScaler(.dynamic))
        for _ in 0..<1999 { scaler.update(hasOverflowed: false) }
        #expect(scaler.scale == 65536)
        scaler.update(hasOverflowed: true)
        for _ in 0..<1999 { scaler.update(hasOverflowed: false) }
        #expect(scaler.scale == 32768)
        scaler.update(hasOverflowed: false)
        #expect(scaler.scale == 65536)
        #expect(scaler.state.growthTracker == 0)
    }

    @Test func fixedScaleStays() throws {
        let scaler = try #require(LossScaler(.fixed(1024)))
        for _ in 0..<2000 { scaler.update(hasOverflowed: false) }
        scaler.update(hasOverflowed: true)
        #expect(scaler.scale == 1024)
        #expect(!scaler.isExhausted)
    }

    @Test func scaleBelowOneIsExhausted() throws {
        let scaler = try #require(LossScaler(.dynamic))
        for _ in 0..<16 { scaler.update(hasOverflowed: true) }
        #expect(scaler.scale == 1)
        #expect(!scaler.isExhausted)
        scaler.update(hasOverflowed: true)
        #expect(scaler.isExhausted)
    }

    @Test func gradientsAreDividedByTheScale() throws {
        let scaler = try #require(LossScaler(.fixed(8)))
        let parameter = try Parameter(path: "p", value: .zeros([2]), isTrainable: true)
        try parameter.value.setGrad(Tensor([8, -4] as [Float], shape: [2]))
        try scaler.unscale([parameter])
        #expect(try parameter.value.grad?.floats() == [1, -0.5])
    }
}

@Suite struct Float16RunTests {
    private func makeRun(
        _ quantize: BaseQuantization = .nf4, dtype: ComputeDType = .float16,
        lossScaling: LossScaling = .dynamic, steps: Int = 4
    ) throws -> TinyRun {
        var run = try TinyRun(steps: steps)
        run.config.quantize = quantize
        run.config.dtype = dtype
        run.config.lossScaling = lossScaling
        run.config.loraDropout = 0.1
        return run
    }

    /// Every part of the model runs in float16, with activations kept and recomputed, and learns as it does in float32.
    @Test(arguments: BaseQuantization.allCases, [false, true])
    func lossesAreCloseToFloat32(quantize: BaseQuantization, isRecomputed: Bool) throws {
        var half = try makeRun(quantize)
        half.config.gradientCheckpointing = isRecomputed
        let single = half.writing(to: "single") {
            $0.dtype = .float32
            $0.lossScaling = .none
        }
        let events = try half.run()
        try single.run()
        let (found, expected) = (try half.losses, try single.losses)
        #expect(found.count == 4)
        #expect(!events.contains { if case .warning = $0 { true } else { false } })
        for (loss, reference) in zip(found, expected) {
            #expect(abs(loss - reference) < Tolerance.float16 * reference)
        }
        let (norms, references) = (
            try RunFiles.metric("grad_norm", in: half.config.outputDir),
            try RunFiles.metric("grad_norm", in: single.config.outputDir)
        )
        for (norm, reference) in zip(norms, references) {
            #expect(abs(norm - reference) < Tolerance.bfloat16 * reference)
        }
        #expect(
            try RunFiles.metric("loss_scale", in: half.config.outputDir) == [
                65536, 65536, 65536, 65536,
            ])
    }

    /// Gradients that overflow at first are no error: steps are left out until the scale fits.
    @Test func overflowLeavesStepsOutUntilTheScaleFits() throws {
        var run = try makeRun(steps: 12)
        run.config.model = try TinyModel.copy(
            of: TinyModel.tied, to: run.workspace.url.appending(path: "model")
        ) { name, tensor in name == "model.norm.weight" ? try tensor * 300 : tensor }
        let events = try run.run()
        let lines = try RunFiles.metrics(in: run.config.outputDir)
        let skipped = lines.prefix { $0["skipped"] != nil }
        #expect((1..<12).contains(skipped.count))
        for (index, line) in skipped.enumerated() {
            #expect(line["step"] == .int(index + 1))
            #expect(line["skipped"] == .string("PEFT-N003"))
            #expect(line["loss_scale"]?.doubleValue == 65536 / Double(1 << index))
        }
        let warnings = events.compactMap { event -> Diagnosis? in
            if case .warning(let diagnosis) = event { diagnosis } else { nil }
        }
        #expect(
            warnings.filter { $0.code == .gradientNotFinite }.count
                == lines.count { $0["skipped"] != nil })
        let last = try #require(lines.last?["loss_scale"]?.doubleValue)
        #expect(last < 65536)
    }

    @Test func fixedScaleThatOverflowsStops() throws {
        let run = try makeRun(lossScaling: .fixed(1e9), steps: 3)
        let error = try #require(throws: Diagnosis.self) { try run.run() }
        #expect(error.code == .gradientNotFinite)
        #expect(error.place.hasPrefix("step 1, row "))
        #expect(error.reason.hasSuffix("at loss scale 1000000000.0, and nothing was updated"))
    }

    @Test func fixedScaleThatOverflowsCanBeSkipped() throws {
        var run = try makeRun(lossScaling: .fixed(1e9), steps: 20)
        run.config.onNonFinite = .skip
        let error = try #require(throws: Diagnosis.self) { try run.run() }
        #expect(error.code == .gradientNotFinite)
        #expect(error.place.hasPrefix("step 10, row "))
    }

    /// Ten in a row are ten in a row, whether the run was resumed among them or not.
    @Test func resumedRunGoesOnCountingSkippedSteps() throws {
        var run = try makeRun(lossScaling: .fixed(1e9), steps: 5)
        run.config.onNonFinite = .skip
        let ended = try #require(throws: Diagnosis.self) { try run.run() }
        #expect(ended.code == .adapterIsZero)
        run.config.resume = true
        run.config.maxSteps = 20
        let error = try #require(throws: Diagnosis.self) { try run.run() }
        #expect(error.place.hasPrefix("step 10, row "))
    }

    @Test func stoppedRunGoesOnBitExactly() throws {
        let whole = try makeRun(steps: 7)
        try whole.run()
        let stopped = whole.writing(to: "stopped")
        try stopped.run(stopAfter: 3)
        let resumed = stopped.writing(to: "stopped") { $0.resume = true }
        try resumed.run()
        #expect(
            try RunFiles.repeatableMetrics(in: resumed.config.outputDir)
                == RunFiles.repeatableMetrics(in: whole.config.outputDir))
        #expect(try resumed.adapterBytes == whole.adapterBytes)
        let path = "/checkpoint-7/run_state.json"
        let states = try [whole, resumed].map {
            try String(contentsOfFile: $0.config.outputDir + path, encoding: .utf8)
        }
        #expect(states[0].contains("\"growth_tracker\" : 7"))
        #expect(states[0] == states[1])
    }

    @Test func anotherScalingDoesNotResume() throws {
        let run = try makeRun()
        try run.run(stopAfter: 2)
        let changed = run.writing(to: "out") {
            $0.resume = true
            $0.lossScaling = .fixed(2)
        }
        let error = try #require(throws: TrainingError.self) { try changed.run() }
        #expect(error.description.contains("loss_scaling: expected dynamic, found 2"))
    }
}
