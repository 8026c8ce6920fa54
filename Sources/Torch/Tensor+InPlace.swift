import CTorch

/// Updates of a tensor's own memory; only under ``withoutGrad(_:)``, since autograd cannot undo them.
extension Tensor {
    /// `self = source`, converting dtype and broadcasting.
    public func copyInPlace(from source: Tensor) throws(TorchError) {
        try update("copy_", [source], ctorch_inplace_copy(handle, source.handle))
    }

    /// `self += scale * other`.
    public func addInPlace(_ other: Tensor, scaledBy scale: Double = 1) throws(TorchError) {
        try update("add_", [other], ctorch_inplace_add(handle, other.handle, scale))
    }

    /// `self *= value`.
    public func multiplyInPlace(_ value: Double) throws(TorchError) {
        try update("mul_", [], ctorch_inplace_mul_scalar(handle, value))
    }

    /// Every element becomes `value`.
    public func fillInPlace(_ value: Double) throws(TorchError) {
        try update("fill_", [], ctorch_inplace_fill(handle, value))
    }

    /// `self += weight * (end - self)`.
    public func interpolateInPlace(to end: Tensor, weight: Double) throws(TorchError) {
        try update("lerp_", [end], ctorch_inplace_lerp(handle, end.handle, weight))
    }

    /// `self += value * first * second`.
    public func addProductInPlace(
        _ first: Tensor, _ second: Tensor, scaledBy value: Double
    ) throws(TorchError) {
        try update(
            "addcmul_", [first, second],
            ctorch_inplace_addcmul(handle, first.handle, second.handle, value))
    }

    /// `self += value * numerator / denominator`.
    public func addQuotientInPlace(
        _ numerator: Tensor, _ denominator: Tensor, scaledBy value: Double
    ) throws(TorchError) {
        try update(
            "addcdiv_", [numerator, denominator],
            ctorch_inplace_addcdiv(handle, numerator.handle, denominator.handle, value))
    }

    /// Throws if an update failed, and lets a trace know of it.
    private func update(
        _ operation: StaticString, _ others: [Tensor], _ status: Int32
    ) throws(TorchError) {
        try check(operation, [self] + others, status)
        if let trace = Trace.current {
            trace.note(operation.description, [self] + others, [self])
        }
    }
}
