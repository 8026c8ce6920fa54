import Foundation
import PEFT

/// The model is loaded again, as after an error in a notebook, but the optimizer is still that of the first one.
func staleOptimizer(_ model: URL) throws {
    let first = try ReadyModel(
        checking: ShardedModel(attachLoRA(to: readBase(model))), sample: makeRows())
    let optimizer = try Optimizer(first, rule: AdamW())
    let second = try ReadyModel(
        checking: ShardedModel(attachLoRA(to: readBase(model))), sample: makeRows())
    _ = try TrainStep(
        second, optimizer: optimizer,
        schedule: LearningRateSchedule(
            peak: 1e-3, kind: .constant, warmupSteps: 0, totalSteps: 1),
        maxGradNorm: 1, seed: 1)
}
