import CTorch

extension Tensor {
    /// A tensor whose elements are not set.
    public static func empty(
        _ shape: [Int], dtype: DType = .float32, on device: Device = .cpu
    ) throws(TorchError) -> Tensor {
        let sizes = shape.map(Int64.init)
        return try make("empty", []) {
            ctorch_tensor_empty(sizes, Int32(sizes.count), dtype.rawValue, device.shim, $0)
        }
    }

    /// A tensor filled with one value.
    public static func full(
        _ shape: [Int], _ value: Double, dtype: DType = .float32, on device: Device = .cpu
    ) throws(TorchError) -> Tensor {
        let sizes = shape.map(Int64.init)
        return try make("full", []) {
            ctorch_tensor_full(
                sizes, Int32(sizes.count), dtype.rawValue, device.shim, value, $0)
        }
    }

    /// A tensor of zeros.
    public static func zeros(
        _ shape: [Int], dtype: DType = .float32, on device: Device = .cpu
    ) throws(TorchError) -> Tensor {
        try full(shape, 0, dtype: dtype, on: device)
    }

    /// A tensor of ones.
    public static func ones(
        _ shape: [Int], dtype: DType = .float32, on device: Device = .cpu
    ) throws(TorchError) -> Tensor {
        try full(shape, 1, dtype: dtype, on: device)
    }

    /// `[0, 1, ..., end - 1]`, int64.
    public static func arange(_ end: Int) throws(TorchError) -> Tensor {
        try make("arange", []) { ctorch_tensor_arange(Int64(end), $0) }
    }

    /// A float32 tensor with a copy of the values, row-major.
    public convenience init(_ values: [Float], shape: [Int]) throws(TorchError) {
        try self.init(copying: values, shape: shape, dtype: .float32)
    }

    /// An int32 tensor with a copy of the values, row-major.
    public convenience init(_ values: [Int32], shape: [Int]) throws(TorchError) {
        try self.init(copying: values, shape: shape, dtype: .int32)
    }

    /// An int64 tensor with a copy of the values, row-major.
    public convenience init(_ values: [Int64], shape: [Int]) throws(TorchError) {
        try self.init(copying: values, shape: shape, dtype: .int64)
    }

    /// A uint8 tensor with a copy of the values, row-major.
    public convenience init(_ values: [UInt8], shape: [Int]) throws(TorchError) {
        try self.init(copying: values, shape: shape, dtype: .uint8)
    }

    private convenience init<Element>(
        copying values: [Element], shape: [Int], dtype: DType
    ) throws(TorchError) {
        guard values.count == shape.reduce(1, *) else {
            throw TorchError(
                operation: "Tensor.init",
                message: "\(values.count) values do not fill shape \(shape)")
        }
        var out: OpaquePointer?
        let sizes = shape.map(Int64.init)
        let status = ctorch_tensor_empty(
            sizes, Int32(sizes.count), dtype.rawValue, Device.cpu.shim, &out)
        guard status == 0, let out else { throw TorchError.last("Tensor.init", []) }
        self.init(owning: out)
        guard !DryRun.isOn else { return }
        withUnsafeMutableBytes { target in
            values.withUnsafeBytes { target.copyMemory(from: $0) }
        }
    }

    /// A tensor over memory that stays where it is, such as a mapped file.
    ///
    /// - Parameters:
    ///   - bytes: the first element; never written through this tensor.
    ///   - shape: sizes, row-major.
    ///   - dtype: type of the elements.
    ///   - owner: keeps the memory valid; released when the storage dies.
    /// - Returns: a tensor that shares the memory.
    /// - Throws: `TorchError` if libtorch refuses the shape.
    public static func wrapping(
        _ bytes: UnsafeRawPointer, shape: [Int], dtype: DType, keeping owner: AnyObject
    ) throws(TorchError) -> Tensor {
        let sizes = shape.map(Int64.init)
        return try make("wrapping", []) {
            ctorch_tensor_from_blob(
                UnsafeMutableRawPointer(mutating: bytes), sizes, Int32(sizes.count), dtype.rawValue,
                releaseContext, Unmanaged.passRetained(owner).toOpaque(), $0)
        }
    }
}
