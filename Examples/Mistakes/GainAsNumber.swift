import Foundation
import PEFT

/// `y = g (W x)` with a trained g that is read as a number, so that no gradient comes back.
final class Gain: LinearAdapter {
    let parameters: [Parameter]

    init(path: String) throws {
        parameters = [
            try Parameter(path: path + ".gain", value: .ones([]), isTrainable: true)
        ]
    }

    func apply(
        to input: Tensor, baseOutput: Tensor, weight: any LinearWeight, context: ForwardContext
    ) throws(TorchError) -> Tensor {
        try baseOutput * parameters[0].value.item()
    }

    func changesNothing() throws(TorchError) -> Bool { try parameters[0].value.item() == 1 }
}

func gainAsNumber(_ model: URL) throws {
    let base = try readBase(model)
    let linear = base.model.units[0].linears[0]
    linear.attach(try Gain(path: linear.path))
    let adapted = try attachLoRA(to: base, targets: .names(["down_proj"]))
    _ = try ReadyModel(checking: ShardedModel(adapted), sample: makeRows())
}
