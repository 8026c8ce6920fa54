package import PEFT

/// Shows a training run's events: a live line on a terminal, plain lines elsewhere, or JSON lines.
package struct TrainingReport {
    /// Whether the run said that it stops early.
    package private(set) var wasInterrupted = false

    private let console: Console
    private let asJSON: Bool
    private var progress = Progress()
    private var isLineOpen = false
    private var lastDrawn = -Double.infinity

    /// Seconds between two redraws.
    private static let redrawInterval = 0.1

    /// Makes a report for a run that begins now.
    package init(console: Console, asJSON: Bool) {
        self.console = console
        self.asJSON = asJSON
    }

    /// Shows one event.
    package mutating func show(_ event: TrainingEvent) {
        if case .interrupted = event { wasInterrupted = true }
        if asJSON {
            console.printLine(event.json.line)
            return
        }
        switch event {
        case .started(let run):
            progress.start(at: run.startStep, of: run.totalSteps, seconds: console.seconds())
        case .step(let metrics, let isLogged):
            progress.advance(to: metrics, seconds: console.seconds())
            console.isTerminal ? draw() : isLogged ? printLine(progress.line) : ()
            return
        case .evaluation where !progress.hasSteps:
            progress.restartClock(seconds: console.seconds())
        default: break
        }
        for line in EventText.lines(of: event, usesColor: console.usesColor) { printLine(line) }
    }

    /// Closes the live line, if one is open.
    package mutating func end() {
        guard isLineOpen else { return }
        drawNow()
        console.err("\n")
        isLineOpen = false
    }

    private mutating func draw() {
        let now = console.seconds()
        guard now - lastDrawn >= Self.redrawInterval || progress.isComplete else { return }
        lastDrawn = now
        drawNow()
    }

    private mutating func drawNow() {
        let bar = progress.bar(width: console.width() - 1, usesColor: console.usesColor)
        console.err("\r\u{1B}[2K" + bar)
        isLineOpen = true
    }

    /// Prints a line that stays, above the live line.
    private mutating func printLine(_ line: String) {
        guard isLineOpen else {
            console.err(line + "\n")
            return
        }
        console.err("\r\u{1B}[2K" + line + "\n")
        drawNow()
    }
}
