import Foundation

/// The learning rate of each update: linear warm-up, then constant, linear or cosine decay to zero.
///
/// With s updates done, W of warm-up and T in all: `s / max(1, W)` of the peak while s < W; then linear
/// `(T - s) / max(1, T - W)`, or cosine `(1 + cos(pi (s - W) / max(1, T - W))) / 2`.
///
/// - Source: transformers `optimization.py:get_linear_schedule_with_warmup`, `get_cosine_schedule_with_warmup`.
public struct LearningRateSchedule: Sendable, Hashable {
    private let peak: Double
    private let kind: LearningRateScheduler
    private let warmupSteps: Int
    private let totalSteps: Int

    /// Describes a schedule.
    ///
    /// - Parameters:
    ///   - peak: the learning rate after warm-up.
    ///   - kind: the shape after warm-up.
    ///   - warmupSteps: updates before the peak.
    ///   - totalSteps: updates of the run.
    public init(peak: Double, kind: LearningRateScheduler, warmupSteps: Int, totalSteps: Int) {
        self.peak = peak
        self.kind = kind
        self.warmupSteps = warmupSteps
        self.totalSteps = totalSteps
    }

    /// The learning rate of the next update.
    ///
    /// - Parameter updatesDone: updates before it.
    /// - Returns: at least zero.
    public func learningRate(updatesDone: Int) -> Double {
        if updatesDone < warmupSteps {
            return peak * Double(updatesDone) / Double(max(1, warmupSteps))
        }
        let decaySteps = Double(max(1, totalSteps - warmupSteps))
        switch kind {
        case .constant, .constantWithWarmup:
            return peak
        case .linear:
            return peak * max(0, Double(totalSteps - updatesDone) / decaySteps)
        case .cosine:
            let progress = Double(updatesDone - warmupSteps) / decaySteps
            return peak * max(0, 0.5 * (1 + cos(.pi * progress)))
        }
    }
}
