import Foundation

/// The learning rate of each update: warm-up from 0, then one of transformers' shapes.
///
/// With s updates done, W of warm-up and T in all the rate is `s / max(1, W)` of the peak while s < W. What follows depends on
/// `x = (s - W) / max(1, T - W)`:
///
/// | Shape | Share of the peak |
/// | --- | --- |
/// | `constant` | 1 |
/// | `linear` | `1 - x` |
/// | `cosine` | `(1 + cos(2 pi c x)) / 2` |
/// | `cosine_with_restarts` | `(1 + cos(pi (c x mod 1))) / 2`, 0 from x = 1 on |
/// | `cosine_with_min_lr` | `m + (1 - m) (1 + cos(2 pi c x)) / 2` |
/// | `polynomial` | `e + (1 - e) (1 - x)^p`, e the last rate's share |
/// | `inverse_sqrt` | `1 / sqrt((s - W + t) / t)` |
/// | `warmup_stable_decay` | 1, then `m + (1 - m) f(x)` over the steps of decay |
///
/// - Source: transformers 5.23 `optimization.py:get_scheduler`. Differs from it: `constant` has the warm-up that is asked for.
public struct LearningRateSchedule: Sendable, Hashable {
    private let peak: Double
    private let kind: LearningRateScheduler
    private let warmupSteps: Int
    private let totalSteps: Int
    private let options: ScheduleOptions

    /// Describes a schedule.
    ///
    /// - Parameters:
    ///   - peak: the learning rate after warm-up.
    ///   - kind: the shape after warm-up.
    ///   - warmupSteps: updates before the peak.
    ///   - totalSteps: updates of the run.
    ///   - options: what the shape depends on.
    public init(
        peak: Double, kind: LearningRateScheduler, warmupSteps: Int, totalSteps: Int,
        options: ScheduleOptions = ScheduleOptions()
    ) {
        self.peak = peak
        self.kind = kind
        self.warmupSteps = warmupSteps
        self.totalSteps = totalSteps
        self.options = options
    }

    /// The learning rate of the next update.
    ///
    /// - Parameter updatesDone: updates before it.
    /// - Returns: at least zero.
    public func learningRate(updatesDone: Int) -> Double {
        peak * max(0, updatesDone < warmupSteps ? rising(updatesDone) : share(updatesDone))
    }

    private func rising(_ step: Int) -> Double {
        let progress = Double(step) / Double(max(1, warmupSteps))
        guard kind == .warmupStableDecay else { return progress }
        let shape =
            switch options.warmupType {
            case .linear: progress
            case .cosine: 0.5 * (1 - cos(.pi * progress))
            case .oneMinusSqrt: 1 - (1 - progress).squareRoot()
            }
        return between(options.minLrRatio, shape)
    }

    private func share(_ step: Int) -> Double {
        let progress = Double(step - warmupSteps) / Double(max(1, totalSteps - warmupSteps))
        switch kind {
        case .constant, .constantWithWarmup:
            return 1
        case .linear:
            return Double(totalSteps - step) / Double(max(1, totalSteps - warmupSteps))
        case .cosine:
            return cosine(progress)
        case .cosineWithRestarts:
            guard progress < 1 else { return 0 }
            let part = ((options.numCycles ?? 1) * progress).truncatingRemainder(dividingBy: 1)
            return 0.5 * (1 + cos(.pi * part))
        case .cosineWithMinLr:
            return between(
                options.minLr.map { $0 / peak } ?? options.minLrRate ?? 0, cosine(progress))
        case .polynomial:
            let end = options.lrEnd / peak
            return step > totalSteps ? end : between(end, pow(1 - progress, options.power))
        case .inverseSqrt:
            let scale = options.timescale ?? Double(warmupSteps > 0 ? warmupSteps : 10_000)
            return 1 / ((Double(step - warmupSteps) + scale) / scale).squareRoot()
        case .warmupStableDecay:
            return stableThenDecaying(step - warmupSteps)
        }
    }

    private func cosine(_ progress: Double) -> Double {
        0.5 * (1 + cos(.pi * (options.numCycles ?? 0.5) * 2 * progress))
    }

    private func stableThenDecaying(_ step: Int) -> Double {
        let numDecaySteps = options.numDecaySteps ?? 0
        let numStableSteps =
            options.numStableSteps ?? totalSteps - warmupSteps - numDecaySteps
        guard step >= numStableSteps else { return 1 }
        guard step < numStableSteps + numDecaySteps else { return options.minLrRatio }
        let progress = Double(step - numStableSteps) / Double(max(1, numDecaySteps))
        let shape =
            switch options.decayType {
            case .linear: 1 - progress
            case .cosine: cosine(progress)
            case .oneMinusSqrt: 1 - progress.squareRoot()
            }
        return between(options.minLrRatio, shape)
    }

    /// From a least share to 1.
    private func between(_ least: Double, _ shape: Double) -> Double {
        shape * (1 - least) + least
    }
}
