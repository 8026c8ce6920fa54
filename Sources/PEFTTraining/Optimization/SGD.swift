public import Torch

/// Stochastic gradient descent without momentum; keeps nothing.
///
/// `p = p - lr (g + wd p)`: the decay goes through the gradient.
///
/// - Source: torch 2.13 `torch/optim/sgd.py:SGD` with its defaults, as transformers 5.23 makes it for `sgd` without `optim_args`.
public struct SGD: Sendable, Hashable {
    /// Makes the rule.
    public init() {}
}

extension SGD: LocalUpdateRule {
    /// Nothing.
    public func state(of piece: UpdatedPiece) -> [StateTensor] { [] }

    /// Updates one tensor.
    public func update(
        _ update: TensorUpdate, state: [Tensor], step: Int
    ) throws(TorchError) {
        if update.weightDecay != 0 {
            try update.gradient.addInPlace(update.value.detach(), scaledBy: update.weightDecay)
        }
        try update.value.addInPlace(update.gradient, scaledBy: -update.learningRate)
    }
}
