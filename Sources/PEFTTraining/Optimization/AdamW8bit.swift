public import PEFTLayers
import PEFTQuantization
public import Torch

/// AdamW whose moments are 8-bit codes: blocks of 256 with a largest value each, in bitsandbytes' dynamic types.
///
/// The update is ``AdamW``'s on decoded moments, which are encoded again after it. Tensors of less than 4096 elements keep float32
/// moments. Blocks run over the whole tensor, in row-major order, and are never cut when it is divided over processes, so neither
/// numbers nor files depend on the division.
///
/// - Source: Dettmers et al. 2022, "8-bit optimizers via block-wise quantization"; bitsandbytes 0.50.2
///   `optim/optimizer.py:Optimizer2State` and `backends/cpu/ops.py:_optimizer_update_8bit_blockwise_cpu`.
/// - Memory: two bytes an element and eight a block.
public struct AdamW8bit: Sendable, Hashable {
    /// The constants of the update.
    public var adamW: AdamW

    /// Elements below which moments stay float32.
    static let minSize = 4096

    /// Makes the rule.
    public init(_ adamW: AdamW = AdamW()) { self.adamW = adamW }

    private func isEncoded(_ count: Int) -> Bool { count >= Self.minSize }
}

extension AdamW8bit: LocalUpdateRule {
    /// `state1` and `state2` in uint8, `absmax1` and `absmax2` a block; of small tensors `state1` and `state2` in float32.
    public func state(of piece: UpdatedPiece) -> [StateTensor] {
        guard isEncoded(piece.wholeCount) else {
            return [StateTensor("state1", like: piece), StateTensor("state2", like: piece)]
        }
        let size = EightBitMoments.blockSize
        return [
            StateTensor("state1", like: piece, dtype: .uint8),
            StateTensor("state2", like: piece, dtype: .uint8),
            StateTensor("absmax1", of: piece, perBlockOf: size),
            StateTensor("absmax2", of: piece, perBlockOf: size),
        ]
    }

    /// A block, where any tensor has blocks.
    public func granule(of parameters: [Parameter]) -> Int {
        parameters.contains { isEncoded($0.value.numElements) } ? EightBitMoments.blockSize : 1
    }

    /// Updates one tensor.
    public func update(
        _ update: TensorUpdate, state: [Tensor], step: Int
    ) throws(TorchError) {
        guard isEncoded(update.piece.wholeCount) else {
            return try adamW.update(update, state: state, step: step)
        }
        let moments = EightBitMoments(
            codes: (state[0], state[1]), absmax: (state[2], state[3]))
        try moments.updateByAdamW(
            update.value, gradient: update.gradient,
            constants: adamW.constants(of: update, step: step))
    }
}
