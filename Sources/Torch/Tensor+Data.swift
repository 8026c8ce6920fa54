import CTorch

extension Tensor {
    /// Reads the elements where they are.
    ///
    /// - Precondition: the tensor is contiguous, in host memory, and no dry run's.
    public func withUnsafeBytes<Result, Failure: Error>(
        _ body: (UnsafeRawBufferPointer) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        defer { withExtendedLifetime(self) {} }
        return try body(UnsafeRawBufferPointer(buffer))
    }

    /// Writes the elements where they are; autograd does not see it.
    ///
    /// - Precondition: the tensor is contiguous, in host memory, and no dry run's.
    public func withUnsafeMutableBytes<Result, Failure: Error>(
        _ body: (UnsafeMutableRawBufferPointer) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        defer { withExtendedLifetime(self) {} }
        return try body(buffer)
    }

    /// Lends the addresses of the first elements of several tensors to a kernel; autograd does not see what it writes.
    ///
    /// - Parameters:
    ///   - tensors: with any strides.
    ///   - body: gets one address a tensor, in order; nil where there are no elements.
    /// - Returns: what the body returns.
    /// - Throws: what the body throws.
    /// - Precondition: every tensor is in host memory, and no dry run's.
    package static func withAddresses<Result, Failure: Error>(
        of tensors: [Tensor], _ body: ([UnsafeMutableRawPointer?]) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        defer { withExtendedLifetime(tensors) {} }
        return try body(tensors.map(\.address))
    }

    private var address: UnsafeMutableRawPointer? {
        precondition(
            device.isHost, "the bytes of a tensor on \(device): copy it with to(.cpu) first")
        var data: UnsafeMutableRawPointer?
        let status = ctorch_tensor_data(handle, &data)
        precondition(status == 0, "a tensor without storage")
        return data
    }

    private var buffer: UnsafeMutableRawBufferPointer {
        precondition(isContiguous, "the bytes of a strided tensor: call contiguous() first")
        return UnsafeMutableRawBufferPointer(start: address, count: sizeBytes)
    }

    /// The elements as float32, row-major, copied to the host.
    public func floats() throws(TorchError) -> [Float] {
        Trace.current?.note("floats", [self], as: .copyToHost)
        let tensor = try to(.float32).to(.cpu).contiguous()
        return tensor.withUnsafeBytes { Array($0.bindMemory(to: Float.self)) }
    }

    /// The elements as float64, row-major, copied to the host.
    public func doubles() throws(TorchError) -> [Double] {
        Trace.current?.note("doubles", [self], as: .copyToHost)
        let tensor = try to(.float64).to(.cpu).contiguous()
        return tensor.withUnsafeBytes { Array($0.bindMemory(to: Double.self)) }
    }

    /// The elements as int64, row-major, copied to the host.
    public func int64s() throws(TorchError) -> [Int64] {
        Trace.current?.note("int64s", [self], as: .copyToHost)
        let tensor = try to(.int64).to(.cpu).contiguous()
        return tensor.withUnsafeBytes { Array($0.bindMemory(to: Int64.self)) }
    }

    /// The only element as a number; waits for the device.
    public func item() throws(TorchError) -> Double {
        var value = 0.0
        Trace.current?.note("item", [self], as: .copyToHost)
        try check("item", [self], ctorch_tensor_item(handle, &value))
        return value
    }
}
