package import PEFTLayers
package import Torch

/// A model over several processes: which units there are, which are in memory now, and how their gradients are summed.
///
/// Positions are the order of use: 0 the embedding, 1...n the blocks, n + 1 the head. Blocks take turns in two places; what is
/// gathered stays until its place is needed, so the last block of forward is still there when backward begins, and the
/// first one in the next forward. Trainable tensors around the blocks are one unit, gathered with the embedding and in memory until they
/// change: tied ones are used at both ends, and in backward. Every rank makes the same calls, so the collectives match by themselves.
package final class ModelShards {
    /// How the model is divided.
    package struct Options: Sendable {
        /// What each process holds a part of.
        package var strategy: ShardingStrategy
        /// Whether a block makes room after forward and is gathered again for backward.
        package var reshardsAfterForward: Bool
        /// The folder in which the base's shards are kept in files instead of memory; nil for memory.
        ///
        /// Those of a device are kept in page-locked host memory instead.
        package var offloadFolder: String?

        /// Makes options; by default everything is divided, in memory.
        package init(
            strategy: ShardingStrategy = .full, reshardsAfterForward: Bool = true,
            offloadFolder: String? = nil
        ) {
            self.strategy = strategy
            self.reshardsAfterForward = reshardsAfterForward
            self.offloadFolder = offloadFolder
        }
    }

    /// The processes.
    package let ranks: RankGroup
    /// How the model is divided.
    package let options: Options
    /// Where the model computes.
    private let device: Device
    /// The frozen units, in the order of construction; empty until they are laid out.
    private var layouts: [UnitLayout] = []
    /// What broke a gather, under the ``TorchError`` that it became on its way through autograd.
    package private(set) var failure: (any Error)?

    private var frozen: [ShardedBuffer] = []
    private var places: [String: (unit: Int, tensor: Int)] = [:]
    private var openUnit: Int?
    private var trainable: [TrainableUnit?] = []
    private var positions: [[ShardedBuffer]] = []
    private var blocks: [String: Int] = [:]
    /// For each frozen unit, where it is used first.
    private var uses: [Int] = []
    private var frozenPool: BufferPool
    private var trainablePool: BufferPool
    private var current = 0
    private var isForward = true
    private var backward: (sums: GradientSums?, last: Int)?

    /// Prepares a model over processes.
    package init(_ ranks: RankGroup, options: Options = Options(), on device: Device = .cpu) {
        self.ranks = ranks
        self.options = options
        self.device = device
        frozenPool = BufferPool(numSlots: 0, on: device)
        trainablePool = BufferPool(numSlots: 0, on: device)
    }

    /// Whether the base is divided, or kept in files, rather than whole in memory.
    package var dividesBase: Bool {
        guard options.offloadFolder == nil else { return true }
        return switch options.strategy {
        case .full, .hybrid: ranks.numShards > 1
        case .gradOp, .none: false
        }
    }

    private var output: Int { positions.count - 1 }

    // MARK: - Laying out

    /// Makes the units of a model: memory for this rank's shards of the base, and tensors without memory for the rest.
    ///
    /// - Parameters:
    ///   - plan: what the model consists of; nil where the base stays whole.
    ///   - blocks: the paths of the decoder blocks, in order.
    ///   - embedding: the path of the embedding's table.
    ///   - isHeadTied: whether the head uses it too.
    /// - Throws: `TorchError` if memory does not suffice.
    package func layOut(
        _ plan: LayoutPlan?, blocks: [String], embedding: String, isHeadTied: Bool
    ) throws {
        layouts = plan?.layouts(blocks: blocks, numShards: ranks.numShards) ?? []
        self.blocks = Dictionary(
            uniqueKeysWithValues: blocks.enumerated().map { ($1, $0 + 1) })
        positions = Array(repeating: [], count: blocks.count + 2)
        trainable = Array(repeating: nil, count: blocks.count + 2)
        let numSlots = options.reshardsAfterForward ? 2 : max(2, blocks.count)
        frozenPool = BufferPool(numSlots: numSlots, on: device)
        let keepsAdapters = options.strategy == .gradOp
        trainablePool = BufferPool(
            numSlots: keepsAdapters ? max(2, blocks.count) : numSlots, on: device)
        var isInput = true
        for (index, layout) in layouts.enumerated() {
            for (tensor, shape) in layout.tensors.enumerated() {
                places[shape.name] = (index, tensor)
            }
            let block = self.blocks[layout.path]
            let buffer = try ShardedBuffer(
                name: "\(layout.path), frozen", shardBytes: layout.shardBytes,
                group: ranks.shards, pool: block == nil ? nil : frozenPool, on: device,
                shard: ShardMemory(sizeBytes: layout.shardBytes))
            frozen.append(buffer)
            // What is made before the blocks is used before them: tables of tokens and of positions.
            if block != nil { isInput = false }
            uses.append(block ?? (isInput ? 0 : output))
            positions[uses[index]].append(buffer)
            if layout.path == embedding, isHeadTied { positions[output].append(buffer) }
        }
    }

    /// Ends the loading of the base: every rank learns the sums of all shards.
    ///
    /// - Throws: `CollectiveError`; an error of the disk where the base is offloaded.
    package func finishLoading() throws {
        if let openUnit { try close(openUnit) }
        guard let group = ranks.shards, !frozen.isEmpty, !DryRun.isOn else { return }
        let sums = frozen.compactMap(\.checksums?.first)
        precondition(sums.count == frozen.count, "a unit of which nothing was placed")
        let own = try Tensor(sums.map(Int64.init(bitPattern:)), shape: [sums.count])
            .to(ranks.device)
        let all = try Tensor.empty([sums.count * group.size], dtype: .int64, on: ranks.device)
        try group.allGather(own, into: all, label: "checksums")
        let words = try all.int64s().map(UInt64.init(bitPattern:))
        for (index, buffer) in frozen.enumerated() {
            buffer.checksums = (0..<group.size).map { words[$0 * sums.count + index] }
        }
    }

    /// Sums a filled unit up, and moves it to where it is kept.
    private func close(_ unit: Int) throws {
        if !DryRun.isOn { frozen[unit].checksums = [try frozen[unit].shardChecksum()] }
        switch (options.offloadFolder, device.isHost) {
        case (let folder?, true): try frozen[unit].shard.moveToFile(in: folder)
        case (_?, false): try frozen[unit].shard.pin()
        case (nil, true): break
        case (nil, false): try frozen[unit].shard.move(to: device)
        }
    }

    // MARK: - Adapters

    /// Divides the trainable tensors by the unit that each belongs to; those outside of the blocks are one unit.
    ///
    /// - Parameters:
    ///   - units: the decoder blocks.
    ///   - all: every trainable tensor of the model.
    ///   - granule: pieces of a tensor begin at multiples of so many elements.
    /// - Throws: `TorchError` if memory does not suffice.
    package func divideTrainable(
        units: [ModuleUnit], all: [Parameter], granule: Int = 1
    ) throws {
        var rest = Dictionary(uniqueKeysWithValues: all.map { (ObjectIdentifier($0), $0) })
        for unit in units {
            let parameters = unit.trainableParameters
            for parameter in parameters { rest[ObjectIdentifier(parameter)] = nil }
            guard let position = blocks[unit.path] else { continue }
            try divide(parameters, of: unit.path, at: position, granule)
        }
        try divide(
            all.filter { rest[ObjectIdentifier($0)] != nil }, of: "around the blocks", at: 0,
            granule)
    }

    private func divide(
        _ parameters: [Parameter], of path: String, at position: Int, _ granule: Int
    ) throws {
        guard !parameters.isEmpty else { return }
        let unit = try TrainableUnit(
            name: "\(path), trainable", parameters: parameters, ranks: ranks,
            pool: position == 0 ? nil : trainablePool, granule: granule)
        trainable[position] = unit
        if let buffer = unit.buffer { positions[position].append(buffer) }
    }

    /// What this rank's optimizer updates.
    package var ownParameters: [OwnParameter] {
        trainable.compactMap(\.self).flatMap(\.own)
    }

    /// Says that the optimizer has changed the shards.
    package func parametersChanged() {
        for unit in trainable { unit?.buffer?.invalidate() }
    }

    // MARK: - Gathering

    /// The position of a block.
    package func position(of path: String) -> Int? { blocks[path] }

    /// The position at which a trainable tensor is whole in memory.
    package func position(of parameter: Parameter) -> Int? {
        trainable.firstIndex { $0?.parameters.contains { $0 === parameter } ?? false }
    }

    /// Brings the unit at a position into memory, and begins to gather the one that comes next.
    ///
    /// - Throws: `CollectiveError` if a rank is gone, ``DamagedShard``, `TorchError` if memory does not suffice.
    package func require(_ position: Int) throws {
        if position != current || position == 0 {
            isForward = position == 0 || position > current
        }
        try reduceLater(than: position)
        current = position
        for buffer in positions[position] { try start(buffer) }
        for buffer in positions[position] { try buffer.finish() }
        let next = isForward ? position + 1 : position - 1
        // The embedding is not used in backward.
        guard next > 0, next < positions.count else { return }
        for buffer in positions[next] { try start(buffer) }
    }

    private func start(_ buffer: ShardedBuffer) throws {
        guard !buffer.isCurrent else { return }
        let used = positions[current]
        let memory = try DryRun.part(.gathered) {
            try buffer.pool?.place(for: buffer) { other in used.contains { $0 === other } }
                ?? buffer.buffer ?? Tensor.empty([buffer.sizeBytes], dtype: .uint8, on: device)
        }
        try buffer.start(into: memory)
    }

    /// Frees what an end of the model took of the base; blocks keep their places.
    package func release(_ end: ModelEnd) throws {
        let position = position(of: end)
        let trained = trainable[position]?.buffer
        for buffer in positions[position] where buffer !== trained { try buffer.evict() }
    }

    /// Brings the unit of one of the base's tensors into memory outside of a pass, where it stays until its place is needed.
    ///
    /// - Parameter path: the tensor's path; nothing happens for one that is not divided.
    /// - Throws: `TorchError`; what broke the gather is ``failure``.
    package func bringIntoMemory(_ path: String) throws(TorchError) {
        guard let unit = places[path]?.unit else { return }
        try gathering { try require(uses[unit]) }
    }

    /// The position of an end.
    package func position(of end: ModelEnd) -> Int { end == .input ? 0 : output }

    /// Runs what may gather; keeps what broke it, since autograd passes only words on.
    package func gathering<Result>(
        _ body: () throws -> Result
    ) throws(TorchError) -> Result {
        do {
            return try body()
        } catch let error as TorchError {
            throw error
        } catch {
            failure = failure ?? error
            throw TorchError(operation: "gather", message: "\(error)")
        }
    }

    // MARK: - Gradients

    /// Says that a backward pass begins.
    ///
    /// - Parameter sums: the gradients of this rank, to be summed over the ranks in this pass, each unit's when its backward has
    ///   ended; nil if they are to be summed after a later one.
    package func beginBackward(reducing sums: GradientSums?) {
        backward = (sums, positions.count)
    }

    /// Begins to sum the gradients of the units whose backward has ended.
    private func reduceLater(than position: Int) throws {
        guard let (sums, last) = backward, let sums else { return }
        for done in stride(from: last - 1, to: position, by: -1) {
            try trainable[done]?.startReduction(of: sums)
        }
        backward = (sums, min(last, position + 1))
    }

    /// Ends a backward pass.
    ///
    /// - Throws: `CollectiveError` if a rank is gone.
    package func endBackward() throws {
        try reduceLater(than: -1)
        if backward?.sums != nil {
            for unit in trainable.reversed() { try unit?.finishReduction() }
        }
        backward = nil
    }

    /// Gives what the optimizer updates its gradients: the sums over all ranks and micro-batches.
    package func handOverGradients() throws {
        for unit in trainable { try unit?.handOverGradients() }
    }

    /// Forgets all gradients.
    package func clearGradients() throws {
        backward = nil
        for unit in trainable { try unit?.clearGradients() }
    }
}

// MARK: - Placement

extension ModelShards: TensorPlacement {
    /// Tensors are filled, but for those of a dry run.
    package var isPlan: Bool { DryRun.isOn }

    /// Whether a tensor belongs to a divided unit.
    package func divides(_ path: String) -> Bool { places[path] != nil }

    /// The whole tensor without memory, and this rank's part of its elements.
    package func place(_ tensor: PlacedShape) throws -> PlacedTensor {
        guard let place = places[tensor.name], layouts[place.unit].tensors[place.tensor] == tensor
        else {
            preconditionFailure("\(tensor.name) was not planned")
        }
        if let open = openUnit, open != place.unit { try close(open) }
        openUnit = place.unit
        let layout = layouts[place.unit]
        let offset = layout.offsets[place.tensor]
        let whole = try frozen[place.unit].whole.view(
            atByte: offset, shape: tensor.shape, dtype: tensor.dtype)
        let range = layout.elements(of: place.tensor, inShard: ranks.shardIndex)
        guard !range.isEmpty else {
            return PlacedTensor(whole: whole, range: range, own: nil)
        }
        let start =
            offset + range.lowerBound * tensor.dtype.sizeBytes
            - ranks.shardIndex * layout.shardBytes
        return PlacedTensor(
            whole: whole, range: range,
            own: try frozen[place.unit].shard.bytes().view(
                atByte: start, shape: [range.count], dtype: tensor.dtype))
    }

    /// Adds the bit patterns of all ranks as integers, which keeps every bit.
    package func complete(_ tensor: Tensor, of name: String) throws {
        guard let group = ranks.shards else { return }
        try ranks.complete(tensor, of: name, in: group)
    }
}
