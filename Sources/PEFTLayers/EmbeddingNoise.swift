package import Torch

/// NEFTune: uniform noise on the embeddings of a training pass.
///
/// `h += u`, u uniform in `±alpha / sqrt(L C)`, L the tokens of the row, C the channels. The numbers depend on the pass's key alone, so a
/// resumed run draws the same ones.
///
/// - Source: Jain et al. 2023, "NEFTune", algorithm 1; transformers 5.23 `integrations/neftune.py:neftune_post_forward_hook`. Differs
///   from the latter: L is the row's own length, as in the paper, not that of the longest row of the batch.
package enum EmbeddingNoise {
    /// Adds the noise of a pass.
    ///
    /// - Parameters:
    ///   - alpha: the strength.
    ///   - hidden: embeddings, `[tokens, channels]`.
    ///   - layout: the rows.
    ///   - key: names the pass.
    /// - Returns: in the dtype of the embeddings.
    /// - Throws: `TorchError` if memory does not suffice.
    /// - Memory: two float32 tensors of the embeddings' shape.
    package static func added(
        _ alpha: Double, to hidden: Tensor, layout: SequenceLayout, key: DropoutKey
    ) throws(TorchError) -> Tensor {
        let numChannels = hidden.shape[1]
        let bounds = layout.segmentLengths.flatMap { length in
            Array(
                repeating: Float(alpha / Double(length * numChannels).squareRoot()), count: length)
        }
        let noise = try Tensor.uniform(
            hidden.shape, from: -1, to: 1, generator: Generator(seed: key.seed(for: "neftune")))
        let scaled = try noise * Tensor(bounds, shape: [bounds.count, 1])
        return try hidden + scaled.to(hidden.dtype).to(hidden.device)
    }
}
