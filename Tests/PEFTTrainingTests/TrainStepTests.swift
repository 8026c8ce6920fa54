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
        let used = try context.dropout == nil ? shift : inTraining(shift)
        return try (baseOutput + used.to(baseOutput.dtype)).to(input.dtype)
    }

    func changesNothing() -> Bool { false }
}

@Suite struct TrainStepTests {
    private let batch = TokenBatch([
        TokenSequence(
            tokens: [3, 1, 4, 1, 5], isTarget: [Bool](repeating: true, count: 5), row: 7)
    ])

    /// A step of a model with a shift on one linear and LoRA on others.
    private func makeStep(
        computeDType: DType = .float32, lossScaling: LossScaling = .none,
        _ inTraining: @escaping (Tensor) throws(TorchError) -> Tensor
    ) throws -> (step: TrainStep, parameters: [Parameter]) {
        let base = try BaseModel(
            at: URL(filePath: TinyModel.tied),
            options: BaseModelOptions(quantization: nil, computeDType: computeDType))
        let linear = try #require(base.registry.linears.first { $0.path.hasSuffix("up_proj") })
        linear.attach(
            try TreacherousAdapter(
                outFeatures: linear.weight.outFeatures, inTraining: inTraining))
        var config = LoRAConfig()
        config.r = 2
        config.targetModules = .names(["q_proj"])
        let ready = try ReadyModel(
            checking: ShardedModel(AdaptedModel(base, adapter: config, seed: 1)), sample: batch)
        let step = try TrainStep(
            ready, optimizer: try Optimizer(ready, rule: AdamW()),
            schedule: LearningRateSchedule(
                peak: 0.1, kind: .constant, warmupSteps: 0, totalSteps: 9), maxGradNorm: 1, seed: 1,
            lossScaling: lossScaling)
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
        let error = try #require(throws: Diagnosis.self) {
            try step(step: 3, microBatches: [batch, batch])
        }
        #expect(error.code == .gradientNotFinite)
        #expect(error.place.hasPrefix("step 4, row 8"))
        #expect(error.tensors.contains("shift"))
        #expect(try values(parameters) == before)
        #expect(parameters.allSatisfy { $0.value.grad == nil })
    }

    @Test func float16WithoutLossScalingIsRefused() throws {
        let error = #expect(throws: Diagnosis.self) {
            try makeStep(computeDType: .float16) { $0 }
        }
        #expect(error?.code == .float16WithoutScaling)
    }

    /// Each overflow halves the scale; once it is below 1, the gradient itself is at fault.
    @Test func gradientThatOverflowsAtEveryLossScaleStops() throws {
        let (step, parameters) = try makeStep(
            computeDType: .float16, lossScaling: .dynamic
        ) { shift throws(TorchError) in try shift.sqrt() }
        let before = try values(parameters)
        var scale = 65536.0
        while scale >= 2 {
            let overflow = try #require(throws: LossScaleOverflow.self) {
                try step(step: 3, microBatches: [batch])
            }
            #expect(overflow.scale == scale)
            #expect(overflow.nextScale == scale / 2)
            #expect(
                overflow.diagnosis.description == """
                    PEFT-N003: step 4: gradients overflow at loss scale \(scale), so nothing was \
                    updated; nothing, unless it goes on: the next steps use \(scale / 2)
                    """)
            scale /= 2
        }
        let error = try #require(throws: Diagnosis.self) {
            try step(step: 3, microBatches: [batch])
        }
        #expect(error.code == .gradientNotFinite)
        #expect(error.place.hasPrefix("step 4, row 8"))
        #expect(error.reason.hasSuffix(" at loss scale 1.0, and nothing was updated"))
        #expect(try values(parameters) == before)
        #expect(parameters.allSatisfy { $0.value.grad == nil })
    }

    @Test func lossThatIsNotFiniteStopsBeforeTheUpdate() throws {
        let (step, parameters) = try makeStep { shift throws(TorchError) in
            try shift + Double.infinity
        }
        let before = try values(parameters)
        let error = try #require(throws: Diagnosis.self) {
            try step(step: 0, microBatches: [batch])
        }
        #expect(
            error.description == """
                PEFT-N002: step 1, row 8, `add` in model.layers.0.mlp.up_proj: the loss is nan, and \
                nothing was updated; lower --learning-rate, compute in --dtype float32, look at this \
                row, or leave such steps out with --on-non-finite skip
                """)
        #expect(try values(parameters) == before)
        #expect(parameters.allSatisfy { $0.value.grad == nil })
    }

    /// Among several rows, the one at fault is named: here the one that holds a certain token.
    @Test func rowAtFaultIsFoundAmongOthers() throws {
        let workspace = try Workspace()
        let model = try TinyModel.grouped(damagedAt: 9, in: workspace)
        let base = try BaseModel(
            at: URL(filePath: model),
            options: BaseModelOptions(quantization: nil, computeDType: .float32))
        var config = LoRAConfig()
        config.r = 2
        config.targetModules = .names(["q_proj"])
        let adapted = try AdaptedModel(base, adapter: config, seed: 1)
        let ready = try ReadyModel(checking: ShardedModel(adapted), sample: batch)
        let step = try TrainStep(
            ready, optimizer: try Optimizer(ready, rule: AdamW()),
            schedule: LearningRateSchedule(
                peak: 0.1, kind: .constant, warmupSteps: 0, totalSteps: 9), maxGradNorm: 1, seed: 1)
        let rows = [[3, 1, 4], [1, 5, 9, 2], [6, 5, 3, 5]].enumerated().map { row, tokens in
            TokenSequence(
                tokens: tokens, isTarget: [Bool](repeating: true, count: tokens.count), row: row)
        }
        let error = try #require(throws: Diagnosis.self) {
            try step(step: 0, microBatches: [TokenBatch(rows.suffix(1)), TokenBatch(rows)])
        }
        #expect(error.place == "step 1, row 2, `embedding` in model.embed_tokens")
    }
}
