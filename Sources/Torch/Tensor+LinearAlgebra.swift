import CTorch

/// Factors of matrices, by LAPACK.
extension Tensor {
    /// The inverse of a square matrix.
    ///
    /// - Throws: `TorchError` for another dtype than float32 and float64, no square matrix, or a singular one.
    /// - Source: `torch.linalg.inv`.
    public func inverse() throws(TorchError) -> Tensor {
        try .make("inv", [self]) { ctorch_linalg_inv(handle, $0) }
    }

    /// The reduced QR factorization of a matrix `[m, n]`: `self = q r`, k = min(m, n).
    ///
    /// The signs of q's columns are LAPACK's. On a dry run the factors have their shapes and no numbers.
    ///
    /// - Returns: q, `[m, k]`, with orthonormal columns, and r, `[k, n]`, upper triangular.
    /// - Throws: `TorchError` for another dtype or no matrix.
    /// - Source: `torch.linalg.qr(mode="reduced")`.
    public func qr() throws(TorchError) -> (q: Tensor, r: Tensor) {
        var q: OpaquePointer?
        var r: OpaquePointer?
        try check("qr", [self], ctorch_linalg_qr(handle, &q, &r))
        guard let q, let r else { throw TorchError.last("qr", [self]) }
        let result = (q: Tensor(owning: q), r: Tensor(owning: r))
        if let trace = Trace.current { trace.note("qr", [self], [result.q, result.r]) }
        return result
    }

    /// The reduced singular value decomposition of a matrix `[m, n]`: `self = u diag(s) vt`, k = min(m, n).
    ///
    /// - Returns: u, `[m, k]`, with orthonormal columns; s, `[k]`, falling and not negative; vt, `[k, n]`, with orthonormal rows.
    /// - Throws: `TorchError` for another dtype than float32 and float64, no matrix, or no convergence (elements that are not finite).
    /// - Source: `torch.linalg.svd(full_matrices=False)`.
    public func svd() throws(TorchError) -> (u: Tensor, s: Tensor, vt: Tensor) {
        var u: OpaquePointer?
        var s: OpaquePointer?
        var vt: OpaquePointer?
        try check("svd", [self], ctorch_linalg_svd(handle, &u, &s, &vt))
        guard let u, let s, let vt else { throw TorchError.last("svd", [self]) }
        let result = (u: Tensor(owning: u), s: Tensor(owning: s), vt: Tensor(owning: vt))
        if let trace = Trace.current {
            trace.note("svd", [self], [result.u, result.s, result.vt])
        }
        return result
    }
}
