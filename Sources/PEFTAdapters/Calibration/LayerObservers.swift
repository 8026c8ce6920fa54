package import PEFTLayers
package import Torch

/// Shows what enters a layer, which computes as its base does.
package final class InputObserver: LinearAdapter {
    private let see: (Tensor) throws(TorchError) -> Void

    /// Makes an observer.
    ///
    /// - Parameter see: called with each input, `[tokens, inFeatures]` in the compute dtype.
    package init(_ see: @escaping (Tensor) throws(TorchError) -> Void) { self.see = see }

    package var parameters: [Parameter] { [] }

    package func changesNothing() -> Bool { true }

    package func apply(
        to input: Tensor, baseOutput: Tensor, weight: any LinearWeight, context: ForwardContext
    ) throws(TorchError) -> Tensor {
        try see(input.detach())
        return try baseOutput.to(input.dtype)
    }
}

/// Sums the gradient of the loss after a layer's weight, `Gᵀ x`, whatever the weight is stored in; the layer computes as its base does.
///
/// - Memory: `[outFeatures, inFeatures]` in float32; the input until backward.
package final class WeightGradientObserver: LinearAdapter {
    /// The sum over all passes, `[outFeatures, inFeatures]`, float32; nil before the first.
    package private(set) var sum: Tensor?
    /// Passes that were summed.
    package private(set) var numPasses = 0

    /// Makes an observer of nothing yet; the input of the model must require grad for backward to get to it.
    package init() {}

    package var parameters: [Parameter] { [] }

    package func changesNothing() -> Bool { true }

    package func apply(
        to input: Tensor, baseOutput: Tensor, weight: any LinearWeight, context: ForwardContext
    ) throws(TorchError) -> Tensor {
        let outputs = try Autograd.node("weight gradient", inputs: [baseOutput]) {
            () throws(TorchError) in
            let states = try input.detach()
            let pullback: Pullback = { [self] gradients throws(TorchError) in
                guard let gradient = gradients[0] else { return [nil] }
                try add(gradient.to(.float32).transposed().matmul(states.to(.float32)))
                return [try gradient.to(baseOutput.dtype)]
            }
            return ([try baseOutput.detach().clone()], pullback)
        }
        return try outputs[0].to(input.dtype)
    }

    private func add(_ gradient: Tensor) throws(TorchError) {
        numPasses += 1
        if let sum { try sum.addInPlace(gradient) } else { sum = gradient }
    }
}
