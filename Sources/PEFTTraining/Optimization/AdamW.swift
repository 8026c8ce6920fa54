import Foundation
import PEFTLayers
public import Torch

/// Adam with decoupled weight decay; state and update in float32.
///
/// `m = b1 m + (1 - b1) g`, `v = b2 v + (1 - b2) g^2`,
/// `p = p (1 - lr wd) - lr / (1 - b1^t) m / (sqrt(v) / sqrt(1 - b2^t) + eps)`.
///
/// - Source: Loshchilov and Hutter 2019, algorithm 2; torch 2.13 `torch/optim/adamw.py`, whose order of operations this
///   follows.
public struct AdamW: Sendable, Hashable {
    /// Decay of the first moment.
    public var beta1 = 0.9
    /// Decay of the second moment.
    public var beta2 = 0.999
    /// Added to the root of the second moment.
    public var epsilon = 1e-8

    /// Makes torch's defaults.
    public init() {}

    /// The constants of an update, as the kernel takes them.
    func constants(of update: TensorUpdate, step: Int) -> AdamWConstants {
        let correction1 = 1 - pow(beta1, Double(step))
        let correction2 = 1 - pow(beta2, Double(step))
        return AdamWConstants(
            firstWeight: Float(1 - beta1), secondDecay: Float(beta2),
            secondWeight: Float(1 - beta2), rootScale: Float(1 / correction2.squareRoot()),
            epsilon: Float(epsilon), decay: Float(1 - update.learningRate * update.weightDecay),
            rate: Float(update.learningRate / correction1))
    }
}

extension AdamW: LocalUpdateRule {
    /// Two moments, `exp_avg` and `exp_avg_sq`.
    public func state(of piece: UpdatedPiece) -> [StateTensor] {
        [StateTensor("exp_avg", like: piece), StateTensor("exp_avg_sq", like: piece)]
    }

    /// Updates one tensor.
    public func update(
        _ update: TensorUpdate, state: [Tensor], step: Int
    ) throws(TorchError) {
        try ElementwiseKernels().updateByAdamW(
            update.value, gradient: update.gradient, moments: (state[0], state[1]),
            constants: constants(of: update, step: step))
    }
}
