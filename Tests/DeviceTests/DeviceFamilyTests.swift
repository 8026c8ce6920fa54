import Foundation
import PEFT
import TestSupport
import Testing

/// Every model family on the device against the same in host memory.
@Suite struct DeviceFamilyTests {
    static let families =
        (try? FileManager.default.contentsOfDirectory(
            atPath: Checkout.fixture("models").path
        ).sorted()) ?? []

    private static let segments = [[3, 1, 4, 1, 5, 9, 2, 6, 5, 3], [5, 8, 9], [7, 9, 3]]

    /// Losses of several segments and the gradients of an adapter on all linears, then some tokens that follow.
    private func results(
        _ family: String, on device: Device
    ) throws -> (losses: [Float], gradients: [Float], tokens: [Int]) {
        let base = try BaseModel(
            at: Checkout.fixture("models/" + family),
            options: BaseModelOptions(
                quantization: QuantizationConfig(blockSize: 32), computeDType: .float32,
                device: device))
        var lora = LoRAConfig()
        lora.r = 2
        lora.targetModules = .allLinear
        lora.initLoraWeights = .random
        let adapted = try AdaptedModel(base, adapter: lora, seed: 7)
        let losses = try base.model.losses(
            tokens: Self.segments.flatMap { $0.map(Int32.init) },
            targets: Self.segments.flatMap { $0.dropFirst().map(Int32.init) + [-1] },
            context: ForwardContext(
                layout: SequenceLayout(segmentLengths: Self.segments.map(\.count))),
            execution: RecomputedExecution())
        try losses.sum.backward()
        let gradients = try adapted.trainableParameters.flatMap {
            try #require($0.value.grad, "\($0.path)").floats()
        }
        let generation = try TokenGeneration(base.model)
        let (tokens, _) = try generation.run(
            prompt: Self.segments[0], maxNewTokens: 5, stopTokens: [])
        return (try losses.perTarget.floats(), gradients, tokens)
    }

    @Test(arguments: families) func computesTheSame(_ family: String) throws {
        let (there, host) = (
            try results(family, on: Simulated.device), try results(family, on: .cpu)
        )
        #expect(Tolerance.relativeError(there.losses, host.losses) < Tolerance.trainingLoss)
        #expect(Tolerance.relativeError(there.gradients, host.gradients) < Tolerance.gradient)
        #expect(there.tokens == host.tokens)
    }

    @Test func thereAreFamilies() { #expect(Self.families.count > 10) }
}
