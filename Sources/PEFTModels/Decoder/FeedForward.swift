import PEFTLayers
import Torch

/// What works on each token of a block by itself.
protocol FeedForwardPart {
    /// `[tokens, hidden] -> [tokens, hidden]`.
    func callAsFunction(
        _ input: Recomputable, context: ForwardContext
    ) throws(TorchError) -> Tensor
}

/// The feed-forward part of a block.
struct FeedForward: FeedForwardPart {
    /// What widens a token.
    enum Up {
        /// `activation(gate(x)) * up(x)`, a linear for each.
        case gated(gate: Linear, up: Linear)
        /// The same, one linear: the gate's channels, then those it is multiplied with.
        case fusedGated(Linear)
        /// `activation(up(x))`.
        case plain(Linear)
    }

    let up: Up
    let activation: Activation
    let down: Linear

    /// `[tokens, hidden] -> [tokens, hidden]`.
    func callAsFunction(
        _ input: Recomputable, context: ForwardContext
    ) throws(TorchError) -> Tensor {
        switch up {
        case .gated(let gate, let up):
            let wide = try activation.gated(
                gate: gate(input, context: context), up: up(input, context: context))
            return try down(wide, context: context)
        case .fusedGated(let linear):
            let both = try linear(input, context: context)
            let half = both.shape[1] / 2
            let wide = try activation.gated(
                gate: both.narrow(1, 0, half), up: both.narrow(1, half, half))
            return try down(wide, context: context)
        case .plain(let linear):
            return try down(activation(linear(input, context: context)), context: context)
        }
    }
}
