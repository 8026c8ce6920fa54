import CTorch

/// A reference to a libtorch tensor; freed with the last Swift reference.
///
/// Not Sendable on purpose: one task owns all tensors, value types cross tasks.
public final class Tensor {
    let handle: OpaquePointer

    /// Takes over a handle that the C shim made.
    init(owning handle: OpaquePointer) {
        self.handle = handle
    }

    deinit {
        ctorch_tensor_free(handle)
    }

    /// The result of a C call that writes a new handle.
    @inline(__always)
    static func make(
        _ operation: StaticString, _ operands: @autoclosure () -> [Tensor?],
        _ call: (UnsafeMutablePointer<OpaquePointer?>) -> Int32
    ) throws(TorchError) -> Tensor {
        var out: OpaquePointer?
        guard call(&out) == 0, let out else {
            throw TorchError.last(operation.description, operands())
        }
        let result = Tensor(owning: out)
        if let trace = Trace.current { trace.note(operation.description, operands(), [result]) }
        return result
    }

    /// A new reference to the tensor behind a handle that C lends to a callback.
    static func borrowing(_ handle: OpaquePointer) throws(TorchError) -> Tensor {
        var out: OpaquePointer?
        guard ctorch_tensor_alias(handle, &out) == 0, let out else {
            throw TorchError.last("alias", [])
        }
        return Tensor(owning: out)
    }

    // MARK: - Properties

    /// The size of each dimension; empty for a scalar.
    public var shape: [Int] {
        let count = Int(ctorch_tensor_dims(handle))
        guard count > 0, let sizes = ctorch_tensor_sizes(handle) else { return [] }
        return UnsafeBufferPointer(start: sizes, count: count).map { Int($0) }
    }

    /// Elements from one index of each dimension to the next.
    package var strides: [Int] {
        let count = Int(ctorch_tensor_dims(handle))
        guard count > 0, let strides = ctorch_tensor_strides(handle) else { return [] }
        return UnsafeBufferPointer(start: strides, count: count).map { Int($0) }
    }

    /// The number of dimensions.
    public var numDimensions: Int { Int(ctorch_tensor_dims(handle)) }

    /// The product of the shape.
    public var numElements: Int { Int(ctorch_tensor_numel(handle)) }

    /// The type of the elements.
    ///
    /// - Precondition: a dtype that this package knows; others never leave the shim.
    public var dtype: DType {
        guard let dtype = DType(rawValue: ctorch_tensor_dtype(handle)) else {
            preconditionFailure("libtorch dtype \(ctorch_tensor_dtype(handle)) has no Swift case")
        }
        return dtype
    }

    /// The dtype that matrix products of this tensor are computed in, where it is.
    public var productDType: DType { dtype.forProducts(on: device) }

    /// The dtype that matrix products of this tensor are computed in if their sums shall have another dtype.
    ///
    /// In host memory float32 if they shall be float32, so that no sum is rounded on its way. A GPU's bfloat16 products would be many
    /// times slower so, and stay.
    public func productDType(into outputDType: DType) -> DType {
        outputDType == .float32 && device.isHost ? .float32 : productDType
    }

    /// The bytes of all elements, without gaps.
    public var sizeBytes: Int { numElements * dtype.sizeBytes }

    /// Whether the elements lie in row-major order without gaps.
    public var isContiguous: Bool { ctorch_tensor_is_contiguous(handle) }

    /// Whether operations on this tensor are recorded for backward.
    public var requiresGrad: Bool { ctorch_autograd_requires_grad(handle) }

    /// Tells this tensor from others for as long as it lives.
    package var identity: UnsafeRawPointer { UnsafeRawPointer(ctorch_tensor_identity(handle)) }

    /// `float32[2, 3]`: dtype and shape, for messages; `float32[2, 3] on cuda:0` of one that is not in host memory.
    public var summary: String {
        "\(dtype.name)\(shape)" + (device.isHost ? "" : " on \(device)")
    }

    /// The summary as all processes have it, each with a device of its own: `float32[2, 3] on cuda`.
    var sharedSummary: String {
        "\(dtype.name)\(shape)" + (device.isHost ? "" : " on \(device.typeName)")
    }

    /// Whether both refer to the very same libtorch tensor.
    public func isSame(as other: Tensor) -> Bool { ctorch_tensor_is_same(handle, other.handle) }
}

extension Tensor: CustomStringConvertible {
    /// Dtype and shape; never the elements, which may be many.
    public var description: String { summary }
}
