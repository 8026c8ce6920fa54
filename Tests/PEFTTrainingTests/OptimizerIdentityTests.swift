import Foundation
import PEFT
import PEFTTraining
import Testing
import TrainingTestSupport

@Suite struct OptimizerIdentityTests {
    private let remedy =
        "make the optimizer from the model that is trained: Optimizer(ready, rule:)"

    private func makeReady(
        _ targets: [String] = ["q_proj"], model: String = TinyModel.tied
    ) throws -> ReadyModel {
        let base = try BaseModel(
            at: URL(filePath: model),
            options: BaseModelOptions(quantization: nil, computeDType: .float32))
        var config = LoRAConfig()
        config.r = 2
        config.targetModules = .names(targets)
        return try ReadyModel(
            checking: ShardedModel(AdaptedModel(base, adapter: config, seed: 1)),
            sample: TokenBatch([
                TokenSequence(
                    tokens: [3, 1, 4, 1, 5], isTarget: [Bool](repeating: true, count: 5), row: 0)
            ]))
    }

    private func path(_ layer: Int, _ name: String) -> String {
        "base_model.model.model.layers.\(layer).self_attn.\(name).weight"
    }

    private func makeStep(_ ready: ReadyModel, _ optimizer: Optimizer) throws(Diagnosis)
        -> TrainStep
    {
        try TrainStep(
            ready, optimizer: optimizer,
            schedule: LearningRateSchedule(
                peak: 0.1, kind: .constant, warmupSteps: 0, totalSteps: 9),
            maxGradNorm: 1, seed: 1)
    }

    private func makeOptimizer(_ parameters: [Parameter]) throws -> Optimizer {
        try Optimizer(parameters, rule: AdamW())
    }

    @Test func optimizerOfTheReadyModelIsTaken() throws {
        let ready = try makeReady()
        _ = try makeStep(ready, try Optimizer(ready, rule: AdamW()))
    }

    /// The same model loaded twice: every path is there, every tensor is another.
    @Test func optimizerOfAnotherModelIsRefused() throws {
        let other = try Optimizer(makeReady(), rule: AdamW())
        let ready = try makeReady()
        let error = #expect(throws: Diagnosis.self) { try makeStep(ready, other) }
        #expect(error?.code == .optimizerHoldsOthers)
        #expect(
            error?.description == """
                PEFT-O001: \(path(0, "q_proj.lora_A")): the optimizer holds another tensor of this \
                name, such as a stale copy; \(remedy)
                """)
    }

    @Test func tensorThatTheOptimizerLacksIsNamed() throws {
        let ready = try makeReady()
        let some = try makeOptimizer(Array(ready.trainableParameters.dropLast()))
        let error = #expect(throws: Diagnosis.self) { try makeStep(ready, some) }
        #expect(
            error?.description == """
                PEFT-O001: \(path(1, "q_proj.lora_B")): the optimizer does not hold this trainable \
                tensor; \(remedy)
                """)
    }

    @Test func tensorThatIsNotTrainedIsNamed() throws {
        let ready = try makeReady()
        let foreign = try Parameter(path: "foreign", value: .zeros([2]), isTrainable: true)
        let more = try makeOptimizer(ready.trainableParameters + [foreign])
        let error = #expect(throws: Diagnosis.self) { try makeStep(ready, more) }
        #expect(
            error?.description
                == "PEFT-O001: foreign: the optimizer holds it, but it is not trained; \(remedy)")
    }

    @Test func tensorThatIsHeldTwiceIsNamed() throws {
        let ready = try makeReady()
        let first = try #require(ready.trainableParameters.first)
        let twice = try makeOptimizer(ready.trainableParameters + [first])
        let error = #expect(throws: Diagnosis.self) { try makeStep(ready, twice) }
        #expect(
            error?.description
                == "PEFT-O001: \(first.path): the optimizer holds it twice; \(remedy)")
    }
}
