import Foundation
import PEFT
import PEFTTraining
import TestSupport
import Testing
import TrainingTestSupport

/// Label smoothing and noise on embeddings.
@Suite struct RegularizationTests {
    /// Losses of transformers' `LabelSmoother` and gradients, on hidden states and a head.
    struct Golden {
        let file: SafetensorsFile

        init() throws {
            file = try SafetensorsFile(
                Checkout.fixture("optimizer/label_smoothing.safetensors"))
        }

        func tensor(_ name: String) throws -> Tensor {
            try file.tensor(#require(file.entry(name))).clone()
        }
    }

    /// Once through logits, as for an adapted head; in float32 no kernel takes the other path, so both are asked for by their dtype.
    @Test(arguments: [DType.float32, .bfloat16], [false, true])
    func smoothedLossIsThatOfTransformers(dtype: DType, hasWeight: Bool) throws {
        let golden = try Golden()
        let hidden = try golden.tensor("hidden").to(dtype)
        let weight = try golden.tensor("weight").to(dtype)
        try hidden.setRequiresGrad(true)
        let targets = try golden.tensor("targets").int64s().map(Int32.init)
        let losses = try CrossEntropy.losses(
            hiddenStates: hidden, targets: targets, weight: hasWeight ? weight : nil,
            labelSmoothing: 0.1
        ) { slice throws(TorchError) in try slice.linear(weight.to(slice.dtype)) }
        let count = targets.count { $0 >= 0 }
        try losses.sum.backward(gradient: Tensor.full([], 1 / Double(count)))
        let loss = try losses.sum.detach().item() / Double(count)
        let expected = try golden.tensor("loss").item()
        let tolerance = dtype == .float32 ? Tolerance.float32 : Tolerance.bfloat16
        #expect(abs(loss - expected) <= tolerance * expected)
        let gradient = try #require(hidden.grad)
        #expect(
            Tolerance.relativeError(
                try gradient.floats(), try golden.tensor("gradient").floats())
                <= (dtype == .float32 ? Tolerance.gradient : Tolerance.bfloat16))
    }

    @Test func smoothingChangesTrainingButNotEvaluation() throws {
        let plain = try TinyRun(steps: 2).writing(to: "plain") {
            $0.evalData = $0.data
            $0.evalOnStart = true
        }
        let smooth = plain.writing(to: "smooth") { $0.labelSmoothingFactor = 0.2 }
        try plain.run()
        try smooth.run()
        let losses = [try plain.losses, try smooth.losses]
        #expect(losses[0] != losses[1])
        func first(_ run: TinyRun) throws -> Double? {
            try RunFiles.metric("eval_loss", in: run.config.outputDir).first
        }
        #expect(try first(plain) == first(smooth))
    }

    // MARK: - Noise

    private func noise(
        _ lengths: [Int], channels: Int, alpha: Double = 5, key: DropoutKey
    ) throws -> [Float] {
        let layout = SequenceLayout(segmentLengths: lengths)
        let hidden = try Tensor.zeros([layout.numTokens, channels])
        return try EmbeddingNoise.added(alpha, to: hidden, layout: layout, key: key).floats()
    }

    private let key = DropoutKey(seed: 3, step: 1, microBatch: 0)

    /// Uniform in alpha over the root of the row's length times the channels.
    @Test func noiseIsUniformWithinTheBoundOfEachRow() throws {
        let (lengths, channels) = ([100, 7], 64)
        let values = try noise(lengths, channels: channels, key: key)
        let rows = [values[..<(100 * channels)], values[(100 * channels)...]]
        for (row, length) in zip(rows, lengths) {
            let bound = 5 / Double(length * channels).squareRoot()
            let magnitudes = row.map { Double(abs($0)) }
            #expect(magnitudes.allSatisfy { $0 <= bound })
            #expect(try #require(magnitudes.max()) > 0.95 * bound)
            let mean = row.reduce(0.0) { $0 + Double($1) } / Double(row.count)
            // Four standard deviations of a mean of uniform numbers.
            #expect(abs(mean) < 4 * bound / (3 * Double(row.count)).squareRoot())
        }
    }

    @Test func noiseDependsOnThePassAlone() throws {
        let first = try noise([5, 3], channels: 4, key: key)
        #expect(try noise([5, 3], channels: 4, key: key) == first)
        let next = DropoutKey(seed: 3, step: 2, microBatch: 0)
        #expect(try noise([5, 3], channels: 4, key: next) != first)
    }

    @Test func runsWithNoiseGoOnBitExactly() throws {
        let plain = try TinyRun(steps: 4).writing(to: "plain")
        try plain.run()
        let whole = plain.writing(to: "whole") { $0.neftuneNoiseAlpha = 5 }
        try whole.run()
        #expect(try whole.losses != plain.losses)
        let stopped = whole.writing(to: "stopped")
        try stopped.run(stopAfter: 2)
        let resumed = stopped.writing(to: "stopped") { $0.resume = true }
        try resumed.run()
        #expect(try resumed.losses == whole.losses)
        #expect(try resumed.adapterBytes == whole.adapterBytes)
    }
}
