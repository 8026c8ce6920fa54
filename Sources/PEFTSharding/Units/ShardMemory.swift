import Torch

/// Where a process keeps its shard of a unit.
///
/// In memory of the host or of a device, or in a file from which it is read each time the unit is gathered: then the base takes disk
/// instead of memory. For a device, page-locked host memory takes the file's place.
final class ShardMemory {
    private enum Place {
        /// It takes memory when it is filled, so that an offloaded model never takes more than a unit's.
        case none
        /// On a device, or page-locked. While it is filled, pages of its own: in a heap, the shards that went to files would leave
        /// holes that nothing uses again.
        case memory(Tensor)
        /// Nil in a dry run.
        case file(OffloadFile?)
    }

    private let sizeBytes: Int
    private let device: Device
    private var place = Place.none

    /// Plans a shard that is filled on a device.
    init(sizeBytes: Int, on device: Device = .cpu) {
        self.sizeBytes = sizeBytes
        self.device = device
    }

    /// The bytes to fill, zeros at first.
    ///
    /// - Throws: `TorchError` if memory does not suffice.
    /// - Precondition: they are not in a file.
    func bytes() throws(TorchError) -> Tensor {
        switch place {
        case .memory(let bytes): return bytes
        case .none:
            let bytes =
                device.isHost
                ? try Tensor.paged([sizeBytes], dtype: .uint8)
                : try Tensor.zeros([sizeBytes], dtype: .uint8, on: device)
            place = .memory(bytes)
            return bytes
        case .file: preconditionFailure("the shard is in a file")
        }
    }

    /// Moves the bytes into a file on the disk of a folder; they leave memory.
    ///
    /// - Throws: `OffloadFile.Failure`.
    func moveToFile(in folder: String) throws {
        let memory = try bytes()
        guard !DryRun.isOn else {
            place = .file(nil)
            return
        }
        let file = try OffloadFile(in: folder)
        try file.write(memory)
        place = .file(file)
    }

    /// Moves the bytes to a device.
    ///
    /// - Throws: `TorchError` if its memory does not suffice.
    func move(to device: Device) throws(TorchError) {
        place = .memory(try bytes().to(device))
    }

    /// Moves the bytes to page-locked host memory, out of which they are copied for each use.
    ///
    /// - Throws: `TorchError` if so much cannot be locked.
    func pin() throws(TorchError) {
        let pinned = try Tensor.pinned([sizeBytes], dtype: .uint8)
        let bytes = try bytes()
        try withoutGrad { () throws(TorchError) in try pinned.copyInPlace(from: bytes) }
        place = .memory(pinned)
    }

    /// Begins what can go on beside computing: the kernel reads a file ahead, a device copies from host memory.
    ///
    /// - Parameter buffer: where ``copy(to:)`` would copy to.
    /// - Returns: the copy, if one was begun.
    /// - Throws: `TorchError` if the device refuses.
    func beginCopy(to buffer: Tensor) throws(TorchError) -> CopyAside? {
        switch place {
        case .file(let file):
            file?.readAhead(sizeBytes: sizeBytes)
            return nil
        case .memory(let bytes) where bytes.device.isHost && !buffer.device.isHost:
            return try CopyAside(to: buffer.narrow(0, 0, sizeBytes), from: bytes)
        case .memory, .none: return nil
        }
    }

    /// Copies the shard to the beginning of a buffer.
    ///
    /// - Throws: `TorchError` if the file cannot be read.
    func copy(to buffer: Tensor) throws(TorchError) {
        switch place {
        case .file(let file): try file?.read(sizeBytes: sizeBytes, into: buffer)
        case .memory, .none:
            let bytes = try bytes()
            try withoutGrad { () throws(TorchError) in
                try buffer.narrow(0, 0, sizeBytes).copyInPlace(from: bytes)
            }
        }
    }

    /// The shard as a tensor on a device: itself if it is there, else a copy.
    ///
    /// - Throws: `TorchError` if the file cannot be read, or memory does not suffice.
    func tensor(on device: Device = .cpu) throws(TorchError) -> Tensor {
        guard case .file = place else { return try bytes().to(device) }
        let buffer = try Tensor.empty([sizeBytes], dtype: .uint8)
        try copy(to: buffer)
        return buffer
    }
}
