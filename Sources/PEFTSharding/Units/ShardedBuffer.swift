import PEFTLayers
import Torch

/// The bytes of a unit: each rank keeps a shard, and all of them are in memory while the unit runs.
///
/// ``whole`` is a storage without memory, over which the unit's tensors are made once and for all; gathering lends it a buffer.
final class ShardedBuffer {
    /// What it is, in messages: `model.layers.3, frozen`.
    let name: String
    /// Bytes of the whole.
    let sizeBytes: Int
    /// The storage of the unit's tensors, uint8 `[sizeBytes]`.
    let whole: Tensor
    /// Where the unit is used.
    let device: Device
    /// Where this rank's shard is.
    let shard: ShardMemory
    /// Where it takes turns with others; nil for memory of its own, which is freed after use.
    let pool: BufferPool?
    /// The ranks that hold the shards; nil where this one holds them all.
    private let group: ProcessGroup?
    /// The sum of each rank's shard, by which the first gather is checked; nil for shards that change.
    var checksums: [UInt64]?

    /// The memory that the tensors have, or will have once the gather has ended.
    private(set) var buffer: Tensor?
    private enum Gather {
        /// By all ranks, of shards that are alive until it has ended.
        case ranks(CollectiveWork, source: Tensor)
        /// Of the only shard, by a device that copies.
        case copy(CopyAside)
        /// Of the only shard, when it is waited for.
        case later
    }
    private var gather: Gather?
    /// Whether the buffer has, or will have, what the shards have now.
    private(set) var isCurrent = false

    init(
        name: String, shardBytes: Int, group: ProcessGroup?, pool: BufferPool?,
        on device: Device, shard: ShardMemory
    ) throws(TorchError) {
        self.name = name
        self.group = group
        self.pool = pool
        sizeBytes = shardBytes * (group?.size ?? 1)
        pool?.reserve(sizeBytes)
        whole = try .storage(sizeBytes: sizeBytes, of: name, on: device)
        self.device = device
        self.shard = shard
    }

    /// Begins to gather into a buffer, of at least ``sizeBytes``.
    func start(into buffer: Tensor) throws {
        self.buffer = buffer
        isCurrent = true
        guard let group else {
            gather = try shard.beginCopy(to: buffer).map { .copy($0) } ?? .later
            return
        }
        let source = try DryRun.part(.gathered) { () throws(TorchError) in
            try shard.tensor(on: device)
        }
        let work = try group.startAllGather(
            source, into: buffer.narrow(0, 0, sizeBytes), label: "gather of \(name)")
        gather = .ranks(work, source: source)
    }

    /// Waits for the gather, if one is under way, and gives the tensors their elements.
    func finish() throws {
        guard let gather, let buffer else { return }
        switch gather {
        case .ranks(let work, _): try work.wait()
        case .copy(let copy): try copy.wait()
        case .later: try shard.copy(to: buffer)
        }
        self.gather = nil
        try whole.lend(buffer)
        try verify(buffer)
    }

    /// Says that the shards have changed, so that the next use gathers again.
    func invalidate() { isCurrent = false }

    /// Takes the elements away from the tensors.
    func evict() throws {
        // Its data must not arrive in a buffer that is another's.
        switch gather {
        case .ranks(let work, _)?: try work.wait()
        case .copy(let copy)?: try copy.wait()
        case .later?, nil: break
        }
        gather = nil
        buffer = nil
        isCurrent = false
        try whole.giveBack(of: name)
    }

    // MARK: - Checksums

    /// The sum of this rank's shard.
    func shardChecksum() throws(TorchError) -> UInt64 {
        try shard.tensor().withUnsafeBytes { StableHash.of($0) }
    }

    /// Compares what came first with what the ranks have.
    private func verify(_ buffer: Tensor) throws {
        guard let checksums else { return }
        self.checksums = nil
        let shardBytes = sizeBytes / checksums.count
        try buffer.to(.cpu).withUnsafeBytes { bytes in
            for (index, expected) in checksums.enumerated() {
                let part = bytes[(index * shardBytes)..<((index + 1) * shardBytes)]
                guard StableHash.of(UnsafeRawBufferPointer(rebasing: part)) == expected else {
                    throw DamagedShard(unit: name, shard: index)
                }
            }
        }
    }
}

/// A gathered unit is not what its ranks hold.
public struct DamagedShard: Error, Equatable, CustomStringConvertible {
    /// The unit.
    public let unit: String
    /// The shard's number in its group.
    public let shard: Int

    /// What, where and what to do.
    public var description: String {
        "\(unit): shard \(shard) arrived with other bytes than it was sent with; check the network and "
            + "the memory of the machines"
    }
}

/// Memory that units of a kind take turns in.
final class BufferPool {
    private struct Slot {
        var memory: Tensor?
        /// Weak, since a unit knows its pool: a model that is dropped must leave memory.
        weak var holder: ShardedBuffer?
    }

    private var slots: [Slot]
    private var sizeBytes = 0
    private let device: Device

    /// A pool of so many places; memory is taken when it is needed.
    init(numSlots: Int, on device: Device) {
        self.device = device
        slots = Array(repeating: Slot(), count: numSlots)
    }

    /// Makes every place large enough; before the first one is taken.
    func reserve(_ sizeBytes: Int) { self.sizeBytes = max(self.sizeBytes, sizeBytes) }

    /// A place for a unit: one of its own if it has one, else the place of one that is not in use.
    ///
    /// - Parameters:
    ///   - unit: who needs it.
    ///   - isInUse: whether a unit must stay.
    /// - Returns: memory for the largest of them.
    /// - Throws: `TorchError` if memory does not suffice; `CollectiveError` of a gather that must end first.
    func place(
        for unit: ShardedBuffer, isInUse: (ShardedBuffer) -> Bool
    ) throws -> Tensor {
        if let buffer = unit.buffer { return buffer }
        let index = slots.firstIndex { $0.holder.map { !isInUse($0) } ?? true }
        guard let index else { preconditionFailure("more units in use than places") }
        try slots[index].holder?.evict()
        let memory = try slots[index].memory ?? Tensor.empty([sizeBytes], dtype: .uint8, on: device)
        slots[index] = Slot(memory: memory, holder: unit)
        return memory
    }
}
