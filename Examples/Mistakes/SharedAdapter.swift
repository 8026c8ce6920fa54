import Foundation
import PEFT

/// One shift for all layers of a kind: an optimizer would update it once for each of them.
final class SharedShift: LinearAdapter {
    let parameters: [Parameter]

    init(numFeatures: Int) throws {
        parameters = [
            try Parameter(path: "shared.shift", value: .zeros([numFeatures]), isTrainable: true)
        ]
    }

    func apply(
        to input: Tensor, baseOutput: Tensor, weight: any LinearWeight, context: ForwardContext
    ) throws(TorchError) -> Tensor {
        try baseOutput + parameters[0].value
    }

    func changesNothing() throws(TorchError) -> Bool {
        try parameters[0].value.isEqual(to: .zeros(parameters[0].value.shape))
    }
}

func sharedAdapter(_ model: URL) throws {
    let base = try readBase(model)
    let layers = base.registry.linears.filter { $0.path.hasSuffix("o_proj") }
    let shared = try SharedShift(numFeatures: layers[0].weight.outFeatures)
    for layer in layers { layer.attach(shared) }
    _ = try ShardedModel(attachLoRA(to: base))
}
