public import Torch

/// Lion: the sign of an interpolated momentum, of which one is kept.
///
/// `p = p (1 - lr wd) - lr sign(b1 m + (1 - b1) g)`, then `m = b2 m + (1 - b2) g`.
///
/// - Source: Chen et al. 2023, "Symbolic discovery of optimization algorithms", algorithm 2; bitsandbytes 0.50.2
///   `backends/cpu/ops.py:_optimizer_update_32bit_cpu`.
public struct Lion: Sendable, Hashable {
    /// Weight of the momentum in the direction.
    public var beta1 = 0.9
    /// Decay of the momentum.
    public var beta2 = 0.99

    /// Makes the paper's defaults.
    public init() {}
}

extension Lion: LocalUpdateRule {
    /// The momentum, `exp_avg`.
    public func state(of piece: UpdatedPiece) -> [StateTensor] {
        [StateTensor("exp_avg", like: piece)]
    }

    /// Updates one tensor.
    public func update(
        _ update: TensorUpdate, state: [Tensor], step: Int
    ) throws(TorchError) {
        let momentum = state[0]
        if update.weightDecay != 0 {
            try update.value.multiplyInPlace(1 - update.learningRate * update.weightDecay)
        }
        let direction = try momentum * beta1
        try direction.addInPlace(update.gradient, scaledBy: 1 - beta1)
        try update.value.addInPlace(direction.sign(), scaledBy: -update.learningRate)
        try momentum.multiplyInPlace(beta2)
        try momentum.addInPlace(update.gradient, scaledBy: 1 - beta2)
    }
}
