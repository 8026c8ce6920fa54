package import PEFT

/// How far a run is, and how it is shown in one line.
package struct Progress {
    private var metrics: StepMetrics?
    private var totalSteps = 0
    private var firstStep = 0
    private var startSeconds = 0.0
    private var nowSeconds = 0.0

    /// Columns of the bar itself, at least and at most.
    private static let barWidths = 8...40

    /// Makes the progress of a run that has not begun.
    package init() {}

    /// Begins at a step, at a time.
    package mutating func start(at step: Int, of totalSteps: Int, seconds: Double) {
        firstStep = step
        self.totalSteps = totalSteps
        restartClock(seconds: seconds)
    }

    /// Begins to measure time again: what came before the first step is over.
    package mutating func restartClock(seconds: Double) {
        startSeconds = seconds
        nowSeconds = seconds
    }

    /// Takes over a step that was done at a time.
    package mutating func advance(to metrics: StepMetrics, seconds: Double) {
        self.metrics = metrics
        nowSeconds = seconds
    }

    /// Whether a step is done.
    package var hasSteps: Bool { metrics != nil }

    /// Whether the last step is done.
    package var isComplete: Bool { step >= totalSteps }

    /// A plain line about the step, for logs.
    package var line: String {
        (["step \(step)/\(totalSteps)"] + fields.map(\.text)).joined(separator: "  ")
    }

    /// A line with a bar that fills `width` columns at most; the least important fields give way.
    package func bar(width: Int, usesColor: Bool) -> String {
        let head = "step \(step)/\(totalSteps)"
        var shown = fields
        func tail() -> String { shown.map { "  " + $0.text }.joined() }
        func room() -> Int { width - head.count - tail().count - 3 }  // " [" and "]"
        while let last = shown.last, !last.outranksBar, room() < Self.barWidths.lowerBound {
            shown.removeLast()
        }
        let columns = min(room(), Self.barWidths.upperBound)
        guard columns >= Self.barWidths.lowerBound else {
            while !shown.isEmpty, head.count + tail().count > width { shown.removeLast() }
            return String((head + tail()).prefix(max(0, width)))
        }
        let share = totalSteps > 0 ? min(1, Double(step) / Double(totalSteps)) : 0
        let filled = Int(share * Double(columns))
        let done = String(repeating: "=", count: filled)
        let open = String(repeating: " ", count: columns - filled)
        let colored = usesColor ? "\u{1B}[32m\(done)\u{1B}[0m" : done
        return "\(head) [\(colored)\(open)]\(tail())"
    }

    private var step: Int { metrics?.step ?? firstStep }

    /// What is said of the step, the most important first.
    private var fields: [(text: String, outranksBar: Bool)] {
        guard let metrics else { return [] }
        return [
            ("loss \(NumberFormat.loss(metrics.loss))", true),
            ("\(NumberFormat.rate(metrics.tokensPerSecond)) tok/s", true),
            ("ETA \(NumberFormat.duration(remainingSeconds))", true),
            (NumberFormat.bytes(metrics.peakMemoryBytes), true),
            ("lr \(NumberFormat.learningRate(metrics.learningRate))", false),
            ("grad norm \(NumberFormat.fixed(metrics.gradNorm, digits: 3))", false),
        ]
    }

    /// The time for the steps that remain, at the pace since the clock began.
    private var remainingSeconds: Double {
        let done = step - firstStep
        guard done > 0 else { return .infinity }
        return (nowSeconds - startSeconds) / Double(done) * Double(max(0, totalSteps - step))
    }
}
