import Foundation
import PEFT

/// `y = W x + sqrt(b)` in training: the root of zero is zero, its gradient is not finite.
///
/// The check before step 0 runs without dropout, as evaluation does, and so takes the other branch.
final class RootShift: LinearAdapter {
    let parameters: [Parameter]

    init(on linear: Linear) throws {
        parameters = [
            try Parameter(
                path: linear.path + ".shift", value: .zeros([linear.weight.outFeatures]),
                isTrainable: true)
        ]
    }

    func apply(
        to input: Tensor, baseOutput: Tensor, weight: any LinearWeight, context: ForwardContext
    ) throws(TorchError) -> Tensor {
        let shift = parameters[0].value
        return try baseOutput + (context.dropout == nil ? shift : shift.sqrt())
    }

    func changesNothing() throws(TorchError) -> Bool {
        try parameters[0].value.isEqual(to: .zeros(parameters[0].value.shape))
    }
}

func rootInTraining(_ model: URL) throws {
    let base = try readBase(model)
    let linear = base.model.units[0].linears[0]
    linear.attach(try RootShift(on: linear))
    let adapted = try attachLoRA(to: base, targets: .names(["down_proj"]))
    let ready = try ReadyModel(checking: ShardedModel(adapted), sample: makeRows())
    let step = try TrainStep(
        ready,
        optimizer: Optimizer(ready, rule: AdamW()),
        schedule: LearningRateSchedule(
            peak: 1e-3, kind: .constant, warmupSteps: 0, totalSteps: 1),
        maxGradNorm: 1, seed: 1)
    _ = try step(step: 0, microBatches: [makeRows()])
}
