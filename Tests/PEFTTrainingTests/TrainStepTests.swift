import Foundation
import PEFT
import PEFTTraining
import TestSupport
import Testing
import TrainingTestSupport

/// Adds a trainable shift; in training, but not in the check before it, something else happens to it.
private final class TreacherousAdapter: LinearAdapter {
    let parameters: [Parameter]
    private let inTraining: (Tensor) throws(TorchError) -> Tensor

    init(
        outFeatures: Int, inTraining: @escaping (Tensor) throws(TorchError) -> Tensor
    ) throws {
        parameters = [
            try Parameter(path: "shift", value: .zeros([outFeatures]), isTrainable: true)
        ]
        self.inTraining = inTraining
    }

    func apply(
        to input: Tensor, baseOutput: Tensor, weight: any LinearWeight, context: ForwardContext
    ) throws(TorchError) -> Tensor {
        let shift = parameters[0].value
        return try baseOutput + (context.dropout == nil ? shift : inTraining(shift))
    }
}

@Suite struct TrainStepTests {
    private let batch = TokenBatch([
        TokenSequence(
            tokens: [3, 1, 4, 1, 5], isTarget: [Bool](repeating: true, count: 5), row: 7)
    ])

    /// A step of a model with a shift on one linear and LoRA on others.
    private func makeStep(
        _ inTraining: @escaping (Tensor) throws(TorchError) -> Tensor
    ) throws -> (step: TrainStep, parameters: [Parameter]) {
        let base = try BaseModel(
            at: URL(filePath: TinyModel.tied),
            options: BaseModelOptions(quantization: nil, computeDType: .float32))
        let linear = try #require(base.registry.linears.first { $0.path.hasSuffix("up_proj") })
        linear.attach(
            try TreacherousAdapter(
                outFeatures: linear.weight.outFeatures, inTraining: inTraining))
        var config = LoRAConfig()
        config.r = 2
        config.targetModules = .names(["q_proj"])
        let ready = try ReadyModel(
            checking: try AdaptedModel(base, adapter: config, seed: 1),
            execution: ResidentExecution(), sample: batch)
        let step = try TrainStep(
            ready, optimizer: try AdamW(ready, configuration: AdamW.Configuration()),
            schedule: LearningRateSchedule(
                peak: 0.1, kind: .constant, warmupSteps: 0, totalSteps: 9), maxGradNorm: 1, seed: 1)
        return (step, ready.trainableParameters)
    }

    private func values(_ parameters: [Parameter]) throws -> [Float] {
        try parameters.flatMap { try $0.value.detach().floats() }
    }

    @Test func stepUpdatesAndLeavesNoGradients() throws {
        let (step, parameters) = try makeStep { $0 }
        let before = try values(parameters)
        let result = try step(step: 0, microBatches: [batch])
        #expect(result.numTargetTokens == 4)
        #expect(result.numTokens == 5)
        #expect(result.learningRate == 0.1)
        #expect(try values(parameters) != before)
        #expect(parameters.allSatisfy { $0.value.grad == nil })
    }

    /// `sqrt` of zero: its value is fine, its gradient infinite.
    @Test func gradientThatIsNotFiniteStopsBeforeTheUpdate() throws {
        let (step, parameters) = try makeStep { shift throws(TorchError) in try shift.sqrt() }
        let before = try values(parameters)
        let error = #expect(throws: TrainingError.self) {
            try step(step: 3, microBatches: [batch, batch])
        }
        guard case .gradientNotFinite(4, let norm, [7, 7]) = error else {
            Issue.record("found \(String(describing: error))")
            return
        }
        #expect(!norm.isFinite)
        #expect(try values(parameters) == before)
        #expect(parameters.allSatisfy { $0.value.grad == nil })
    }

    @Test func lossThatIsNotFiniteStopsBeforeTheUpdate() throws {
        let (step, parameters) = try makeStep { shift throws(TorchError) in
            try shift + Double.infinity
        }
        let before = try values(parameters)
        let error = #expect(throws: TrainingError.self) {
            try step(step: 0, microBatches: [batch])
        }
        #expect(
            error?.description == """
                step 1: the loss is nan on rows 7; the last checkpoint is kept; lower learning_rate, \
                or look at these rows
                """)
        #expect(try values(parameters) == before)
        #expect(parameters.allSatisfy { $0.value.grad == nil })
    }
}
