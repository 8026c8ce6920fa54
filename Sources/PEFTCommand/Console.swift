import Dispatch
import Foundation
import PEFT

/// Where a command writes, and what that place can show; passed in, so that tests can look.
package struct Console {
    /// Writes results, to standard output.
    package var out: (String) -> Void
    /// Writes progress, notices and errors, to standard error.
    package var err: (String) -> Void
    /// Whether standard error is a terminal that can redraw a line.
    package var isTerminal: Bool
    /// Whether colors are welcome on standard error.
    package var usesColor: Bool
    /// Columns of the terminal.
    package var width: () -> Int
    /// Seconds on a clock that only goes forward.
    package var seconds: () -> Double

    /// Makes a console of its parts.
    package init(
        out: @escaping (String) -> Void, err: @escaping (String) -> Void, isTerminal: Bool,
        usesColor: Bool, width: @escaping () -> Int, seconds: @escaping () -> Double
    ) {
        self.out = out
        self.err = err
        self.isTerminal = isTerminal
        self.usesColor = usesColor
        self.width = width
        self.seconds = seconds
    }

    /// The console of this process; `NO_COLOR` and `TERM=dumb` are respected.
    ///
    /// - Parameter environment: the process's environment variables.
    /// - Returns: a console that writes to standard output and standard error.
    package static func process(environment: [String: String]) -> Console {
        let isDumb = environment["TERM"].map { $0 == "dumb" || $0.isEmpty } ?? true
        let isTerminal = isatty(STDERR_FILENO) == 1 && !isDumb
        let isColorRefused = !(environment["NO_COLOR"] ?? "").isEmpty
        return Console(
            out: { writeResult($0) }, err: { writeNote($0) },
            isTerminal: isTerminal, usesColor: isTerminal && !isColorRefused,
            width: { terminalWidth() },
            seconds: { Double(DispatchTime.now().uptimeNanoseconds) / 1e9 })
    }

    /// Writes to standard output; a program whose results are lost ends as a failure.
    private static func writeResult(_ text: String) {
        do {
            try AtomicFile.write(text, to: STDOUT_FILENO, path: "standard output")
        } catch {
            writeNote("peft: error: \(error)\n")
            exit(Command.Status.failed)
        }
    }

    /// Writes to standard error; progress that nobody can read is no reason to stop.
    static func writeNote(_ text: String) {
        try? AtomicFile.write(text, to: STDERR_FILENO, path: "standard error")
    }

    /// Writes a line of results.
    package func printLine(_ text: String) { out(text + "\n") }

    /// Writes one line an error, each with the prefix that scripts look for.
    package func printError(_ message: String) {
        for line in message.split(separator: "\n", omittingEmptySubsequences: true) {
            err("peft: error: \(line)\n")
        }
    }

    private static func terminalWidth() -> Int {
        var size = winsize()
        let isKnown = ioctl(STDERR_FILENO, UInt(TIOCGWINSZ), &size) == 0 && size.ws_col > 0
        return isKnown ? Int(size.ws_col) : 80
    }
}
