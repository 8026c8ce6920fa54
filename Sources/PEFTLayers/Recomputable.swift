public import Torch

/// A tensor together with the way to compute it again.
///
/// A layer that needs its input in backward need not keep it, if it is cheap to make from what is kept anyway: the output of a norm
/// from the residual stream, that of SwiGLU from gate and up. `docs/memory.md` says for each layer what is kept.
public struct Recomputable {
    /// The tensor, with its graph.
    public let value: Tensor
    private let again: (() throws(TorchError) -> Tensor)?

    /// Describes a tensor that can be computed again.
    ///
    /// - Parameters:
    ///   - value: the tensor.
    ///   - again: makes the same bits without graph; keeps alive only what lives until backward without it.
    public init(_ value: Tensor, again: @escaping () throws(TorchError) -> Tensor) {
        self.value = value
        self.again = again
    }

    /// Describes a tensor that is kept, since nothing cheap makes it again.
    public init(kept value: Tensor) {
        self.value = value
        again = nil
    }

    /// What a layer keeps for its backward: called there, it gives the tensor without its graph.
    ///
    /// - Throws: `TorchError` if libtorch fails.
    /// - Memory: the tensor itself if nothing makes it again; else nothing but what that keeps alive.
    func saved() throws(TorchError) -> () throws(TorchError) -> Tensor {
        if let again { return again }
        let kept = try value.detach().contiguous()
        return { () throws(TorchError) in kept }
    }
}
