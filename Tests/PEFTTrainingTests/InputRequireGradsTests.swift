import Foundation
import PEFT
import PEFTTraining
import Testing
import TrainingTestSupport

/// Recomputation as people write it after PyTorch's reentrant checkpoint: a node over its input alone, whose pullback runs
/// the block again and calls backward on it, so that gradients arrive at what the block captures.
private final class ReentrantExecution: BlockExecution {
    func run(
        _ unit: ModuleUnit, _ hiddenStates: Tensor,
        _ body: @escaping (Tensor) throws(TorchError) -> Tensor
    ) throws(TorchError) -> Tensor {
        try Autograd.node("checkpoint", inputs: [hiddenStates]) {
            () throws(TorchError) -> (outputs: [Tensor], pullback: Pullback) in
            let saved = try hiddenStates.detach()
            let pullback: Pullback = { gradients throws(TorchError) in
                try withGradEnabled(true) { () throws(TorchError) in
                    let leaf = try saved.detach()
                    try leaf.setRequiresGrad(true)
                    try body(leaf).backward(gradient: gradients[0])
                    return [leaf.grad]
                }
            }
            return ([try body(saved)], pullback)
        }[0]
    }
}

/// `enableInputRequireGrads()`, which transformers' users know: not needed here, but for code of their own.
@Suite struct InputRequireGradsTests {
    private let sample = TokenBatch([
        TokenSequence(
            tokens: [3, 1, 4, 1, 5], isTarget: [Bool](repeating: true, count: 5), row: 0)
    ])

    private func adapted(targets: TargetModules = .allLinear) throws -> AdaptedModel {
        let base = try BaseModel(
            at: URL(filePath: TinyModel.tied),
            options: BaseModelOptions(quantization: QuantizationConfig(), computeDType: .float32))
        var config = LoRAConfig()
        config.r = 2
        config.targetModules = targets
        return try AdaptedModel(base, adapter: config, seed: 1)
    }

    private func check(_ model: AdaptedModel, _ execution: any BlockExecution) throws {
        _ = try ReadyModel(
            checking: ShardedModel(model, execution: execution), sample: sample)
    }

    @Test func reentrantCodeOverAFrozenInputIsDiagnosed() throws {
        let model = try adapted()
        let found = try #require(throws: Diagnosis.self) {
            try check(model, ReentrantExecution())
        }
        #expect(found.code == .undeclaredCapture)
        #expect(found.place == "model.layers.1")
        #expect(
            found.tensors == model.trainableParameters.map(\.path).filter { $0.contains(".1.") })
        #expect(found.reason.hasSuffix(", and none of its inputs requires grad"))
        #expect(found.remedy.hasSuffix("needs enableInputRequireGrads()"))
    }

    /// The silent twin: the head learns, the blocks do not, and elsewhere training goes on.
    @Test func headThatLearnsBesideBlocksThatDoNotIsDiagnosed() throws {
        let model = try adapted(targets: .names(["q_proj", "lm_head"]))
        let found = try #require(throws: Diagnosis.self) {
            try check(model, ReentrantExecution())
        }
        #expect(found.code == .undeclaredCapture)
        #expect(!found.tensors.contains { $0.contains("lm_head") })
    }

    @Test func enablingInputGradsMendsReentrantCode() throws {
        let model = try adapted()
        model.base.model.enableInputRequireGrads()
        try check(model, ReentrantExecution())
        model.base.model.disableInputRequireGrads()
        #expect(throws: Diagnosis.self) { try check(model, ReentrantExecution()) }
    }

    /// Why the built-in path does not need it: trainable tensors are inputs of the node that recomputes.
    @Test(arguments: [false, true])
    func builtInRecomputationNeedsNoInputGrads(isEnabled: Bool) throws {
        let model = try adapted()
        if isEnabled { model.base.model.enableInputRequireGrads() }
        try check(model, RecomputedExecution())
        try check(model, ResidentExecution())
    }

    @Test func gradientsAreTheSameWithAndWithoutInputGrads() throws {
        var found: [[[Float]?]] = []
        for isEnabled in [false, true] {
            let model = try adapted()
            if isEnabled { model.base.model.enableInputRequireGrads() }
            let losses = try model.base.model.losses(
                tokens: sample.tokens, targets: sample.targets,
                context: ForwardContext(
                    layout: SequenceLayout(segmentLengths: sample.segmentLengths)),
                execution: RecomputedExecution())
            try losses.sum.backward()
            found.append(try model.trainableParameters.map { try $0.value.grad?.floats() })
        }
        #expect(found[0] == found[1])
        #expect(found[0].allSatisfy { $0 != nil })
    }
}
