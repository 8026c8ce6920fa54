import CTorch

/// Where a tensor's elements are and its operations run.
public struct Device: Hashable, Sendable {
    /// libtorch's `c10::DeviceType` code.
    let type: Int32
    /// The number among the devices of the type; 0 for the CPU.
    public let index: Int

    /// Host memory, and the processor.
    public static let cpu = Device(type: 0, index: 0)

    /// An NVIDIA GPU.
    ///
    /// - Parameter index: its number, as CUDA counts those that are visible to the process.
    /// - Returns: the device, be it there or not.
    public static func cuda(_ index: Int) -> Device { Device(type: cudaType, index: index) }

    /// The device that libtorch leaves to other libraries, the first of them; tests simulate one with it.
    package static let privateUse = Device(type: 20, index: 0)

    /// libtorch's type of a dry run's tensors.
    private static let metaType: Int32 = 14
    private static let cudaType: Int32 = 1

    /// Whether elements are in memory that this process can read by itself; a dry run's count as such.
    package var isHost: Bool { type == Self.cpu.type || type == Self.metaType }

    /// Whether it is an NVIDIA GPU.
    package var isCUDA: Bool { type == Self.cudaType }

    // MARK: - What there is

    /// The number of NVIDIA GPUs that this process can use; 0 also where libtorch is no CUDA build.
    public static var numCUDADevices: Int { Int(ctorch_device_count(cudaType)) }

    /// Whether libtorch is a CUDA build.
    public static var isCUDABuild: Bool { ctorch_device_is_cuda_build() }

    /// Bytes of its memory, free and in all.
    ///
    /// - Returns: what the device tells; for a CUDA device that includes what other processes take.
    /// - Throws: `TorchError` for the CPU, whose memory the system tells, and for a device that does not say.
    public func memory() throws(TorchError) -> (freeBytes: Int, totalBytes: Int) {
        guard !isHost else {
            throw TorchError(
                operation: "device memory", message: "\(self) has no memory but the system's")
        }
        var (free, total) = (Int64(0), Int64(0))
        try check("device memory", [], ctorch_device_memory(shim, &free, &total))
        return (Int(free), Int(total))
    }

    /// Waits until the device has done all that was asked of it.
    ///
    /// - Throws: `TorchError` for what failed there.
    public func synchronize() throws(TorchError) {
        try check("synchronize", [], ctorch_device_synchronize(shim))
    }

    /// `cuda`.
    var typeName: String { String(cString: ctorch_device_name(type)) }

    /// The device in the shim's terms.
    var shim: CTorchDevice { CTorchDevice(type: type, index: Int32(index)) }
}

extension Device: CustomStringConvertible {
    /// `cpu` or `cuda:0`, as libtorch writes it.
    public var description: String {
        if self == .cpu { return "cpu" }
        return "\(typeName):\(index)"
    }
}

extension Tensor {
    /// Where the elements are.
    public var device: Device {
        let device = ctorch_tensor_device(handle)
        return Device(type: device.type, index: Int(device.index))
    }

    /// The elements on a device, without history; self if they are there.
    ///
    /// - Parameter device: where to; in a dry run nothing moves.
    /// - Returns: shape and dtype of self, and no history.
    /// - Throws: `TorchError` if the device cannot be used or its memory does not suffice.
    /// - Memory: a copy, if they are elsewhere. Waits for a device that is copied from; a copy out of ``pinned(_:dtype:)`` memory
    ///   is queued only, before what is asked of the device later.
    public func to(_ device: Device) throws(TorchError) -> Tensor {
        guard self.device != device, !DryRun.isOn else { return self }
        return try withoutGrad { () throws(TorchError) in
            try .make("to device", [self]) { ctorch_device_copy(handle, device.shim, $0) }
        }
    }

    /// A host tensor in page-locked memory, which a device copies from without the processor; its elements are not set.
    ///
    /// - Throws: `TorchError` if there is no device, or no memory that can be locked.
    package static func pinned(_ shape: [Int], dtype: DType) throws(TorchError) -> Tensor {
        let sizes = shape.map(Int64.init)
        return try make("pinned", []) {
            ctorch_tensor_pinned(sizes, Int32(sizes.count), dtype.rawValue, $0)
        }
    }
}
