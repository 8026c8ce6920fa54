import CTorch

extension Tensor {
    /// The sum of all elements, a scalar.
    public func sum() throws(TorchError) -> Tensor {
        try .make("sum", [self]) { ctorch_reduce_sum(handle, $0) }
    }

    /// The sum over some dimensions.
    public func sum(
        _ dims: [Int], keepDims: Bool = false
    ) throws(TorchError) -> Tensor {
        let axes = dims.map(Int64.init)
        return try .make("sum", [self]) {
            ctorch_reduce_sum_dims(handle, axes, Int32(axes.count), keepDims, $0)
        }
    }

    /// The mean of all elements, a scalar, in libtorch's order of summation.
    public func mean() throws(TorchError) -> Tensor {
        try .make("mean", [self]) { ctorch_reduce_mean(handle, $0) }
    }

    /// The mean over some dimensions.
    public func mean(
        _ dims: [Int], keepDims: Bool = false
    ) throws(TorchError) -> Tensor {
        let axes = dims.map(Int64.init)
        return try .make("mean", [self]) {
            ctorch_reduce_mean_dims(handle, axes, Int32(axes.count), keepDims, $0)
        }
    }

    /// The largest element, a scalar.
    public func max() throws(TorchError) -> Tensor {
        try .make("max", [self]) { ctorch_reduce_max(handle, $0) }
    }

    /// The index of the largest element along a dimension, int64; the first of equal ones.
    public func argmax(_ dim: Int) throws(TorchError) -> Tensor {
        try .make("argmax", [self]) { ctorch_reduce_argmax(handle, Int64(dim), $0) }
    }

    /// The Euclidean (Frobenius) norm of all elements, a scalar; squares are added in float64, which the result is, too.
    public func norm() throws(TorchError) -> Tensor {
        try .make("norm", [self]) { ctorch_reduce_norm(handle, $0) }
    }

    /// Whether no element is infinite or NaN; waits for the device.
    public func allFinite() throws(TorchError) -> Bool {
        var result = false
        try check("isfinite", [self], ctorch_reduce_all_finite(handle, &result))
        return result
    }

    /// Whether shape and every element are equal; waits for the device.
    public func isEqual(to other: Tensor) throws(TorchError) -> Bool {
        var result = false
        try check("equal", [self, other], ctorch_reduce_equal(handle, other.handle, &result))
        return result
    }
}
