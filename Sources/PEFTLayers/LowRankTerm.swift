public import Torch

/// What an adapter adds to a linear layer, where it is a product of two thin matrices: `s B A x'`.
///
/// x' is the layer's input, or the input with some elements dropped.
public struct LowRankTerm {
    /// The matrix A, `[r, inFeatures]`, float32; gradients reach it.
    public let a: Tensor
    /// The matrix B, `[outFeatures, r]`, float32; gradients reach it.
    public let b: Tensor
    /// The factor s.
    public let scale: Double
    /// Which elements of the input the term sees, bool `[tokens, inFeatures]`; nil: all.
    public let kept: Tensor?

    /// Describes a term.
    public init(a: Tensor, b: Tensor, scale: Double, kept: Tensor? = nil) {
        self.a = a
        self.b = b
        self.scale = scale
        self.kept = kept
    }
}
