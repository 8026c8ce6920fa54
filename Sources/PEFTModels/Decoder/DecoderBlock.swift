import PEFTLayers
import Torch

/// One block: attention and feed-forward part, each added to the residual stream between norms.
///
/// `h += m after(attention(before(h)))`, then `h += m after(feedForward(before(h)))`; where both parts read the block's input, `h`
/// becomes the sum of the three.
final class DecoderBlock {
    /// What stands around a part; nil for nothing.
    struct Norms {
        var before: (any Normalization)?
        var after: (any Normalization)?
    }

    private let attentionNorms: Norms
    /// The part that reads other tokens.
    let attention: SelfAttention
    private let feedForwardNorms: Norms
    private let feedForward: any FeedForwardPart
    private let residualMultiplier: Double
    private let isParallel: Bool

    /// Composes a block.
    ///
    /// - Parameters:
    ///   - attentionNorms: around the attention.
    ///   - attention: reads the other tokens.
    ///   - feedForwardNorms: around the feed-forward part.
    ///   - feedForward: works on each token.
    ///   - residualMultiplier: factor m of what is added.
    ///   - isParallel: whether both parts read the block's input.
    init(
        attentionNorms: Norms, _ attention: SelfAttention, feedForwardNorms: Norms,
        _ feedForward: any FeedForwardPart, residualMultiplier: Double = 1, isParallel: Bool = false
    ) {
        self.attentionNorms = attentionNorms
        self.attention = attention
        self.feedForwardNorms = feedForwardNorms
        self.feedForward = feedForward
        self.residualMultiplier = residualMultiplier
        self.isParallel = isParallel
    }

    /// `[tokens, hidden] -> [tokens, hidden]`.
    func callAsFunction(
        _ input: Tensor, rotations: [RotaryEmbedding.Rotation], context: ForwardContext
    ) throws(TorchError) -> Tensor {
        let attended = try part(input, attentionNorms) { normalized throws(TorchError) in
            try attention(normalized, rotations: rotations, context: context)
        }
        let hidden = try input + attended
        let transformed = try part(isParallel ? input : hidden, feedForwardNorms) {
            normalized throws(TorchError) in
            try feedForward(normalized, context: context)
        }
        return try hidden + transformed
    }

    /// What a part adds to the residual stream.
    private func part(
        _ input: Tensor, _ norms: Norms, _ body: (Recomputable) throws(TorchError) -> Tensor
    ) throws(TorchError) -> Tensor {
        var output = try body(norms.before?.recomputable(input) ?? Recomputable(kept: input))
        if let after = norms.after { output = try after(output) }
        return residualMultiplier == 1 ? output : try output * residualMultiplier
    }
}
