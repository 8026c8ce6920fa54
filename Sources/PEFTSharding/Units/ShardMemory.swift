import Torch

/// Where a process keeps its shard of a unit.
///
/// In memory, or in a file from which it is read each time the unit is gathered: then the base takes disk instead of memory.
final class ShardMemory {
    private enum Place {
        /// It takes memory when it is filled, so that an offloaded model never takes more than a unit's.
        case none
        /// Pages of its own: in a heap, the shards that went to files would leave holes that nothing uses again.
        case memory(Tensor)
        /// Nil in a dry run.
        case file(OffloadFile?)
    }

    private let sizeBytes: Int
    private var place = Place.none

    /// Plans a shard.
    init(sizeBytes: Int) {
        self.sizeBytes = sizeBytes
    }

    /// The bytes to fill, zeros at first.
    ///
    /// - Throws: `TorchError` if memory does not suffice.
    /// - Precondition: they are not in a file.
    func bytes() throws(TorchError) -> Tensor {
        switch place {
        case .memory(let bytes): return bytes
        case .none:
            let bytes = try Tensor.paged([sizeBytes], dtype: .uint8)
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

    /// Asks the kernel to read the file ahead; returns at once.
    func readAhead() {
        if case .file(let file?) = place { file.readAhead(sizeBytes: sizeBytes) }
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

    /// The shard as a tensor: itself, or read from the file.
    ///
    /// - Throws: `TorchError` if the file cannot be read.
    func tensor() throws(TorchError) -> Tensor {
        guard case .file = place else { return try bytes() }
        let buffer = try Tensor.empty([sizeBytes], dtype: .uint8)
        try copy(to: buffer)
        return buffer
    }
}
