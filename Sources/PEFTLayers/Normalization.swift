public import Torch

/// A norm over the channels of each token.
public protocol Normalization: AnyObject {
    /// Normalizes each row of the last dimension.
    ///
    /// - Parameter input: `[..., channels]`, float32, bfloat16 or float16.
    /// - Returns: the same shape and dtype.
    /// - Throws: `TorchError` if shapes or dtypes do not fit.
    func callAsFunction(_ input: Tensor) throws(TorchError) -> Tensor

    /// The same, for layers that need not keep it: computed again from the input, which this layer keeps.
    ///
    /// - Throws: `TorchError` if shapes or dtypes do not fit.
    func recomputable(_ input: Tensor) throws(TorchError) -> Recomputable
}
