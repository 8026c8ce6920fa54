import Foundation
import PEFTCheckpoints
import Torch

/// Records a few steps of a run, after one that is not recorded since it warms up, as a Chrome trace.
final class StepProfile {
    /// The most steps that are recorded; each takes some 25 MB of the file for a model of 30 blocks.
    private static let maxSteps = 2

    private let file: AtomicFile
    private var numToSkip: Int
    private var recorded: ClosedRange<Int>?
    private var isOver = false

    /// Prepares a record.
    ///
    /// - Parameters:
    ///   - path: where the trace is to be.
    ///   - numSteps: steps that are to come; a single one is recorded without warming up.
    /// - Throws: `CheckpointError.cannotWrite` if no file can be there.
    init(path: String, numSteps: Int) throws(CheckpointError) {
        file = try AtomicFile(replacing: URL(filePath: path))
        numToSkip = numSteps > 1 ? 1 : 0
    }

    deinit {
        if recorded != nil, !isOver { try? Profile.end(writingTo: nil) }
    }

    /// Runs a step, and records it if it is its turn.
    ///
    /// - Throws: what the body throws; `CheckpointError`, `TorchError` of the record.
    func step<Result>(_ number: Int, _ body: () throws -> Result) throws -> Result {
        guard !isOver else { return try body() }
        guard numToSkip == 0 else {
            numToSkip -= 1
            return try body()
        }
        if recorded == nil { try Profile.begin() }
        recorded = (recorded?.lowerBound ?? number)...number
        return try Profile.range("step \(number)", body)
    }

    /// Writes the trace when enough steps are in it, or when no more come.
    ///
    /// - Returns: what was written, for a person; nil if nothing was.
    /// - Throws: `CheckpointError` if the disk refuses; `TorchError`.
    func write(isLast: Bool) throws -> String? {
        guard let recorded, !isOver, isLast || recorded.count == Self.maxSteps else { return nil }
        isOver = true
        try Profile.end(writingTo: file.temporary.path)
        try file.commit()
        return "\(file.url.path): profile of steps \(recorded.lowerBound) to \(recorded.upperBound)"
    }
}
