import Foundation
import Torch

/// What the ranks do together.
enum Scenario: String {
    /// Every collective on odd sizes in all dtypes that sharding moves.
    case collectives
    /// Several calls are under way at once and are waited for in another order.
    case overlapping
    /// The last rank is killed after the first barrier.
    case killed
    /// The last rank is killed while an all-gather moves its data.
    case killedInGather
    /// Rank 1 calls another collective than the others.
    case diverged
    /// All call the same, for different layers, and nobody waits for it.
    case mislabeled
    /// The last rank comes to the second call after the others have given up.
    case late

    /// Runs this rank's part.
    func run(_ group: ProcessGroup, _ report: inout Report) throws {
        switch self {
        case .collectives: try collectives(group, &report)
        case .overlapping: try overlapping(group, &report)
        case .killed:
            try group.barrier()
            if group.rank == group.size - 1 { kill(getpid(), SIGKILL) }
            try failing(group, &report) { try group.allReduce($0, label: "gradients") }
        case .killedInGather:
            let part = try Tensor.zeros([48 << 20], dtype: .uint8)
            let whole = try Tensor.zeros([group.size * 48 << 20], dtype: .uint8)
            try group.barrier()
            let isKilled = group.rank == group.size - 1
            try failing(group, &report) { _ in
                let work = try group.startAllGather(part, into: whole)
                if isKilled {
                    usleep(10_000)
                    kill(getpid(), SIGKILL)
                }
                try work.wait()
            }
        case .diverged:
            try group.barrier()
            try failing(group, &report) {
                if group.rank == 1 {
                    try group.broadcast($0, from: 0, label: "gather of model.layers.3")
                } else {
                    try group.allReduce($0)
                }
            }
        case .mislabeled:
            try failing(group, &report) {
                _ = try group.startAllReduce(
                    $0, label: "gradients of model.layers.\(group.rank)")
            }
        case .late:
            try group.barrier()
            if group.rank == group.size - 1 {
                Thread.sleep(forTimeInterval: group.timeoutSeconds * 3)
            }
            try failing(group, &report) { try group.allReduce($0, label: "gradients") }
        }
    }

    /// Notes the error of a call, and that of the call after it.
    private func failing(
        _ group: ProcessGroup, _ report: inout Report, _ call: (Tensor) throws -> Void
    ) throws {
        let tensor = try Tensor.ones([4])
        report.catchingError { _ in try call(tensor) }
        let begin = ContinuousClock.now
        do {
            try group.barrier()
        } catch {
            report.nextError = "\(error)"
        }
        report.nextElapsedSeconds = (ContinuousClock.now - begin) / .seconds(1)
    }

    /// `(7 i + 3 rank) mod 13`: small enough that sums and quarters are exact in every dtype.
    private func input(_ count: Int, _ rank: Int, _ dtype: DType) throws -> Tensor {
        try Tensor((0..<count).map { Float((7 * $0 + 3 * rank) % 13) }, shape: [count]).to(dtype)
    }

    private func collectives(_ group: ProcessGroup, _ report: inout Report) throws {
        let (rank, size) = (group.rank, group.size)
        for dtype in [DType.float32, .bfloat16, .uint8, .int64] {
            for count in [0, 1, 5, 1023] {
                for reduction in Reduction.allCases
                where reduction != .average || dtype.isFloatingPoint {
                    let name = "\(reduction) \(dtype.name) \(count)"
                    let all = try input(count, rank, dtype)
                    try group.allReduce(all, reduction, label: "all")
                    report.values["allReduce \(name)"] = try all.floats()
                    let part = try Tensor.zeros([count], dtype: dtype)
                    try group.reduceScatter(
                        try input(size * count, rank, dtype), into: part, reduction)
                    report.values["reduceScatter \(name)"] = try part.floats()
                }
                let gathered = try Tensor.zeros([size * count], dtype: dtype)
                try group.allGather(try input(count, rank, dtype), into: gathered)
                report.values["allGather \(dtype.name) \(count)"] = try gathered.floats()
                let shared = try Tensor.zeros([size * count], dtype: dtype)
                let mine = try shared.narrow(0, rank * count, count)
                try mine.copyInPlace(from: try input(count, rank, dtype))
                try group.allGather(mine, into: shared)
                report.values["allGather inPlace \(dtype.name) \(count)"] = try shared.floats()
                let copied = try input(count, rank, dtype)
                try group.broadcast(copied, from: size - 1)
                report.values["broadcast \(dtype.name) \(count)"] = try copied.floats()
            }
        }
        try group.barrier()
    }

    private func overlapping(_ group: ProcessGroup, _ report: inout Report) throws {
        let first = try input(1023, group.rank, .float32)
        let second = try input(5, group.rank, .float32)
        let trained = try input(5, group.rank, .float32)
        try trained.setRequiresGrad(true)
        let firstWork = try group.startAllReduce(first)
        let secondWork = try group.startBroadcast(second, from: 0)
        // Nobody waits for this one; the barrier comes after it all the same.
        _ = try group.startAllReduce(trained, .average)
        try group.barrier()
        report.values["isFinished"] = [firstWork.isFinished && secondWork.isFinished ? 1 : 0]
        try secondWork.wait()
        try firstWork.wait()
        report.values["first"] = try first.floats()
        report.values["second"] = try second.floats()
        report.values["trained"] = try trained.floats()
    }
}
