import Foundation
import PEFT

/// `y = W x + b` with a trained b and a hand-written pullback that forgets it.
final class Shift: LinearAdapter {
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
        return try Autograd.node("shift", inputs: [baseOutput, shift]) {
            () throws(TorchError) -> (outputs: [Tensor], pullback: Pullback) in
            ([try baseOutput + shift], { gradients in [gradients[0], nil] })
        }[0]
    }

    func changesNothing() throws(TorchError) -> Bool {
        try parameters[0].value.isEqual(to: .zeros(parameters[0].value.shape))
    }
}

func forgottenGradient(_ model: URL) throws {
    let base = try readBase(model)
    let linear = base.model.units[0].linears[0]
    linear.attach(try Shift(on: linear))
    let adapted = try attachLoRA(to: base, targets: .names(["down_proj"]))
    _ = try ReadyModel(checking: ShardedModel(adapted), sample: makeRows())
}
