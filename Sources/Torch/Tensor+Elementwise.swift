import CTorch

extension Tensor {
    /// `self + scale * other`, broadcasting.
    public func adding(
        _ other: Tensor, scaledBy scale: Double = 1
    ) throws(TorchError) -> Tensor {
        try .make("add", [self, other]) {
            ctorch_elementwise_add(handle, other.handle, scale, $0)
        }
    }

    /// `left + right`, broadcasting.
    public static func + (left: Tensor, right: Tensor) throws(TorchError) -> Tensor {
        try left.adding(right)
    }

    /// `left - right`, broadcasting.
    public static func - (left: Tensor, right: Tensor) throws(TorchError) -> Tensor {
        try make("sub", [left, right]) { ctorch_elementwise_sub(left.handle, right.handle, $0) }
    }

    /// `left * right`, element by element, broadcasting.
    public static func * (left: Tensor, right: Tensor) throws(TorchError) -> Tensor {
        try make("mul", [left, right]) { ctorch_elementwise_mul(left.handle, right.handle, $0) }
    }

    /// `left / right`, element by element, broadcasting.
    public static func / (left: Tensor, right: Tensor) throws(TorchError) -> Tensor {
        try make("div", [left, right]) { ctorch_elementwise_div(left.handle, right.handle, $0) }
    }

    /// `left + right` for every element.
    public static func + (left: Tensor, right: Double) throws(TorchError) -> Tensor {
        try make("add", [left]) { ctorch_elementwise_add_scalar(left.handle, right, $0) }
    }

    /// `left * right` for every element.
    public static func * (left: Tensor, right: Double) throws(TorchError) -> Tensor {
        try make("mul", [left]) { ctorch_elementwise_mul_scalar(left.handle, right, $0) }
    }

    /// `self ^ exponent` for every element.
    public func power(_ exponent: Double) throws(TorchError) -> Tensor {
        try .make("pow", [self]) { ctorch_elementwise_pow_scalar(handle, exponent, $0) }
    }

    /// `self ^ exponents`, element by element, broadcasting.
    public func raised(to exponents: Tensor) throws(TorchError) -> Tensor {
        try .make("pow", [self, exponents]) {
            ctorch_elementwise_pow(handle, exponents.handle, $0)
        }
    }

    /// `-self`.
    public func negated() throws(TorchError) -> Tensor {
        try .make("neg", [self]) { ctorch_elementwise_neg(handle, $0) }
    }

    /// `|self|`.
    public func abs() throws(TorchError) -> Tensor {
        try .make("abs", [self]) { ctorch_elementwise_abs(handle, $0) }
    }

    /// -1, 0 or 1.
    public func sign() throws(TorchError) -> Tensor {
        try .make("sign", [self]) { ctorch_elementwise_sign(handle, $0) }
    }

    /// `e ^ self`.
    public func exp() throws(TorchError) -> Tensor {
        try .make("exp", [self]) { ctorch_elementwise_exp(handle, $0) }
    }

    /// The natural logarithm.
    public func log() throws(TorchError) -> Tensor {
        try .make("log", [self]) { ctorch_elementwise_log(handle, $0) }
    }

    /// The square root.
    public func sqrt() throws(TorchError) -> Tensor {
        try .make("sqrt", [self]) { ctorch_elementwise_sqrt(handle, $0) }
    }

    /// `1 / sqrt(self)`.
    public func rsqrt() throws(TorchError) -> Tensor {
        try .make("rsqrt", [self]) { ctorch_elementwise_rsqrt(handle, $0) }
    }

    /// The sine.
    public func sin() throws(TorchError) -> Tensor {
        try .make("sin", [self]) { ctorch_elementwise_sin(handle, $0) }
    }

    /// The cosine.
    public func cos() throws(TorchError) -> Tensor {
        try .make("cos", [self]) { ctorch_elementwise_cos(handle, $0) }
    }

    /// `1 / (1 + e ^ -self)`.
    public func sigmoid() throws(TorchError) -> Tensor {
        try .make("sigmoid", [self]) { ctorch_elementwise_sigmoid(handle, $0) }
    }

    /// `self * sigmoid(self)`.
    public func silu() throws(TorchError) -> Tensor {
        try .make("silu", [self]) { ctorch_elementwise_silu(handle, $0) }
    }

    /// The hyperbolic tangent.
    public func tanh() throws(TorchError) -> Tensor {
        try .make("tanh", [self]) { ctorch_elementwise_tanh(handle, $0) }
    }

    /// `x Phi(x)` with the normal distribution function, or its approximation
    /// `x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2`.
    ///
    /// - Source: Hendrycks and Gimpel 2016, "Gaussian Error Linear Units".
    public func gelu(usesTanh: Bool = false) throws(TorchError) -> Tensor {
        try .make("gelu", [self]) { ctorch_elementwise_gelu(handle, usesTanh, $0) }
    }

    /// The same values in another dtype; the same tensor if it has it already.
    public func to(_ dtype: DType) throws(TorchError) -> Tensor {
        guard dtype != self.dtype else { return self }
        return try .make("to", [self]) { ctorch_elementwise_to(handle, dtype.rawValue, $0) }
    }
}
