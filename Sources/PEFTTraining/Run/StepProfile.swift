import Foundation
import PEFTCheckpoints
import Torch

/// Records a few steps of a run, after one that is not recorded since it warms up, as a Chrome trace.
final class StepProfile {
    /// The most steps that are recorded; each takes some 25 MB of the file for a model of 30 blocks.
    private static let maxSteps = 2

    private enum Stage {
        case warmingUp
        case ready
        case recording(ClosedRange<Int>)
        case over
    }

    private let file: AtomicFile
    private var stage: Stage

    /// Prepares a record.
    ///
    /// - Parameters:
    ///   - path: where the trace is to be.
    ///   - numSteps: steps that are to come; a single one is recorded without warming up.
    /// - Throws: `CheckpointError.cannotWrite` if no file can be there.
    init(path: String, numSteps: Int) throws(CheckpointError) {
        file = try AtomicFile(replacing: URL(filePath: path))
        stage = numSteps > 1 ? .warmingUp : .ready
    }

    deinit {
        if case .recording = stage { try? Profile.end(writingTo: nil) }
    }

    /// Runs a step, and records it if it is its turn.
    ///
    /// - Throws: what the body throws; `TorchError` of the record.
    func step<Result>(_ number: Int, _ body: () throws -> Result) throws -> Result {
        switch stage {
        case .over: return try body()
        case .warmingUp:
            stage = .ready
            return try body()
        case .ready:
            try Profile.begin()
            stage = .recording(number...number)
        case .recording(let steps): stage = .recording(steps.lowerBound...number)
        }
        return try Profile.range("step \(number)", body)
    }

    /// Writes the trace when enough steps are in it, or when no more come.
    ///
    /// - Returns: what was written, for a person; nil if nothing was.
    /// - Throws: `CheckpointError` if the disk refuses; `TorchError`.
    func write(isLast: Bool) throws -> String? {
        guard case .recording(let recorded) = stage, isLast || recorded.count >= Self.maxSteps
        else { return nil }
        stage = .over
        try Profile.end(writingTo: file.temporary.path)
        try file.commit()
        return "\(file.url.path): profile of steps \(recorded.lowerBound) to \(recorded.upperBound)"
    }
}
