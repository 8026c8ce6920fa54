package import Torch

/// This process among those of its run: who shares a model with it, and who holds the same.
///
/// Ranks `k n ..< (k + 1) n` form the k-th shard group, n processes that together hold everything once. Ranks with the same
/// position in their shard groups form a replica group: they hold the same part.
package final class RankGroup {
    /// This process's number in the run.
    package private(set) var rank: Int
    /// The number of processes of the run.
    package private(set) var size: Int
    /// All processes; nil where there is one.
    package private(set) var world: ProcessGroup?
    /// Those that together hold everything once; nil where one process does.
    package let shards: ProcessGroup?
    /// Where tensors are that the processes exchange: a device for NCCL, else the host.
    package let device: Device
    /// Those that hold the same part; nil where nobody else does.
    package private(set) var replicas: ProcessGroup?

    /// A process alone.
    package init() {
        (rank, size, world, shards, replicas) = (0, 1, nil, nil, nil)
        device = .cpu
    }

    /// Divides the processes of a run.
    ///
    /// - Parameters:
    ///   - world: all processes.
    ///   - numShards: processes of a shard group; divides the number of processes.
    ///   - device: where the processes' backend moves tensors.
    /// - Throws: `CollectiveError` naming the ranks that did not come.
    package init(
        _ world: ProcessGroup, numShards: Int, on device: Device = .cpu
    ) throws(CollectiveError) {
        self.device = device
        precondition(
            numShards > 0 && world.size % numShards == 0, "shard groups of different sizes")
        (rank, size) = (world.rank, world.size)
        self.world = world.size > 1 ? world : nil
        let first = rank / numShards * numShards
        if numShards == world.size {
            shards = self.world
        } else {
            shards =
                numShards == 1
                ? nil
                : try world.subgroup(
                    of: Array(first..<(first + numShards)), named: "shards-\(first / numShards)")
        }
        if numShards == 1 {
            replicas = self.world
        } else {
            replicas =
                numShards == world.size
                ? nil
                : try world.subgroup(
                    of: Array(stride(from: rank % numShards, to: size, by: numShards)),
                    named: "replicas-\(rank % numShards)")
        }
    }

    /// Goes on as a process alone, with everything that the run has: for what is left to do when another process is lost.
    ///
    /// - Precondition: nothing is divided.
    package func goOnAlone() {
        precondition(shards == nil, "this process has only a part of everything")
        (rank, size, world, replicas) = (0, 1, nil, nil)
    }

    /// Whether this process reports, and writes what is written once.
    package var isMain: Bool { rank == 0 }
    /// The number of parts that everything is divided into.
    package var numShards: Int { shards?.size ?? 1 }
    /// Which part this process holds.
    package var shardIndex: Int { shards?.rank ?? 0 }
    /// Whether this process's part is counted where every part counts once.
    package var countsOnce: Bool { rank < numShards }

    // MARK: - Small agreements

    /// The sum over all ranks of each number, the same bits on every rank.
    package func sum(_ values: [Double], for label: String) throws -> [Double] {
        guard let world, !values.isEmpty else { return values }
        let tensor = try Tensor.empty([values.count], dtype: .float64)
        tensor.withUnsafeMutableBytes { target in
            values.withUnsafeBytes { target.copyMemory(from: $0) }
        }
        let shared = try tensor.to(device)
        try world.allReduce(shared, label: label)
        return try shared.to(.cpu).withUnsafeBytes { Array($0.bindMemory(to: Double.self)) }
    }

    /// Completes a tensor of which each rank has filled other elements, zeros elsewhere: adds the bit patterns as integers, which
    /// keeps every bit.
    ///
    /// - Parameters:
    ///   - tensor: float32, contiguous.
    ///   - name: what it is, for errors.
    ///   - group: the ranks; nil for all.
    /// - Throws: `CollectiveError` if a rank does not come; `TorchError` if memory does not suffice.
    package func complete(
        _ tensor: Tensor, of name: String, in group: ProcessGroup? = nil
    ) throws {
        guard let group = group ?? world else { return }
        let bits = try tensor.view(atByte: 0, shape: tensor.shape, dtype: .int32)
        let shared = try bits.to(device)
        try group.allReduce(shared, label: name)
        guard !shared.isSame(as: bits) else { return }
        try withoutGrad { try bits.copyInPlace(from: shared) }
    }

    /// What every rank has to say, by rank.
    ///
    /// - Throws: `CollectiveError` if a rank does not come.
    package func exchange(_ text: String, for label: String) throws -> [String] {
        guard let world else { return [text] }
        let bytes = Array(text.utf8)
        let lengths = try Tensor.empty([size], dtype: .int64, on: device)
        try world.allGather(
            Tensor([Int64(bytes.count)], shape: [1]).to(device), into: lengths,
            label: label + ", lengths")
        let counts = try lengths.int64s().map(Int.init)
        let width = max(1, counts.max() ?? 1)
        let padded = bytes + Array(repeating: 0, count: width - bytes.count)
        let all = try Tensor.empty([size * width], dtype: .uint8, on: device)
        try world.allGather(
            Tensor(padded, shape: [width]).to(device), into: all, label: label)
        return try all.to(.cpu).withUnsafeBytes { all in
            counts.enumerated().map { rank, count in
                String(decoding: all[(rank * width)..<(rank * width + count)], as: UTF8.self)
            }
        }
    }

    /// Runs a part of the work that may fail on one rank alone, and lets all ranks fail with it.
    ///
    /// - Parameters:
    ///   - label: what it is for.
    ///   - body: makes no collective calls.
    /// - Returns: what the bodies of all ranks returned, by rank.
    /// - Throws: the body's error on the rank where it failed; ``RankFailure`` naming that rank on the others.
    @discardableResult
    package func together(
        _ label: String, _ body: () throws -> String
    ) throws -> [String] {
        let result = Result { try body() }
        guard world != nil else { return [try result.get()] }
        let text =
            switch result {
            case .success(let text): "+" + text
            case .failure(let error): "-\(error)"
            }
        let all = try exchange(text, for: label)
        _ = try result.get()
        for (rank, text) in all.enumerated() where text.hasPrefix("-") {
            throw RankFailure(rank: rank, what: label, reason: String(text.dropFirst()))
        }
        return all.map { String($0.dropFirst()) }
    }
}

/// Another rank could not do its part, so this one ends too.
public struct RankFailure: Error, Equatable, CustomStringConvertible {
    /// The rank that failed.
    public let rank: Int
    /// What it was doing.
    public let what: String
    /// Its error in words.
    public let reason: String

    /// Names the rank, what it did and why it failed.
    public init(rank: Int, what: String, reason: String) {
        self.rank = rank
        self.what = what
        self.reason = reason
    }

    /// One line.
    public var description: String { "rank \(rank) failed (\(what)): \(reason)" }
}
