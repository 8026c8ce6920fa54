import Foundation
import TestSupport
import TrainingTestSupport

/// The built program `peft` as a process of its own; killed if it runs too long.
final class RunningProgram {
    /// How a process ended, and what it printed.
    struct Result {
        /// The exit status; the negative number of the signal that ended it.
        let status: Int32
        /// Standard output.
        let out: String
        /// Standard error.
        let err: String
    }

    /// What went wrong with the process itself.
    enum Failure: Error {
        case timeout(waitingFor: String, out: String, err: String)
        case ended(waitingFor: String, status: Int32, out: String, err: String)
    }

    /// The longest that a test waits for anything; far beyond what is needed, so that load does no harm.
    private static let timeoutSeconds = 240.0

    /// The folder of the test bundle that runs, where all programs are built.
    private static let folder = URL(filePath: "/proc/self/exe").resolvingSymlinksInPath()
        .deletingLastPathComponent()

    private let process = Process()
    private let files: Workspace
    private let isEnded = DispatchSemaphore(value: 0)

    /// Where a program of this package was built.
    static func url(of name: String) -> URL { folder.appending(path: name) }

    /// Starts the program.
    ///
    /// - Parameters:
    ///   - arguments: its arguments.
    ///   - input: what it reads from standard input.
    ///   - limit: a shell command that runs before it in the same process, such as `ulimit -f 8`.
    ///   - name: the program's name.
    ///   - folder: where it runs; nil for an empty one of its own.
    /// - Throws: an error of the file system.
    convenience init(
        _ arguments: [String], input: String = "", after limit: String? = nil,
        of name: String = "peft", in folder: URL? = nil
    ) throws {
        try self.init(
            Self.url(of: name), arguments, input: input, after: limit, in: folder)
    }

    /// Starts a program of any path, with variables added to this process's environment.
    init(
        _ executable: URL, _ arguments: [String], environment added: [String: String] = [:],
        input: String = "", after limit: String? = nil, in folder: URL? = nil
    ) throws {
        files = try Workspace()
        try files.write(input, as: "in")
        for name in ["out", "err"] { try files.write("", as: name) }
        if let limit {
            process.executableURL = URL(filePath: "/bin/bash")
            process.arguments =
                ["-c", limit + #"; exec "$0" "$@""#, executable.path] + arguments
        } else {
            process.executableURL = executable
            process.arguments = arguments
        }
        var environment = ProcessInfo.processInfo.environment
        environment["OMP_NUM_THREADS"] = "1"
        process.environment = environment.merging(added) { $1 }
        process.currentDirectoryURL = folder ?? files.url
        process.standardInput = try FileHandle(forReadingFrom: files.url.appending(path: "in"))
        process.standardOutput = try FileHandle(forWritingTo: files.url.appending(path: "out"))
        process.standardError = try FileHandle(forWritingTo: files.url.appending(path: "err"))
        process.terminationHandler = { [isEnded] _ in isEnded.signal() }
        try process.run()
    }

    deinit {
        if process.isRunning { kill(process.processIdentifier, SIGKILL) }
    }

    /// Runs the program to its end.
    static func run(
        _ arguments: [String], input: String = "", after limit: String? = nil,
        of name: String = "peft", in folder: URL? = nil
    ) throws -> Result {
        try RunningProgram(arguments, input: input, after: limit, of: name, in: folder).finish()
    }

    /// What it has printed so far.
    var out: String { text("out") }

    /// Sends it a signal.
    func send(_ signal: Int32) { kill(process.processIdentifier, signal) }

    /// Waits until something holds.
    ///
    /// - Throws: `Failure` if the program ends before, or if it takes too long.
    func wait(until what: String, _ holds: () throws -> Bool) throws {
        let end = DispatchTime.now() + Self.timeoutSeconds
        while try !holds() {
            guard process.isRunning else {
                throw Failure.ended(
                    waitingFor: what, status: process.terminationStatus, out: out,
                    err: text("err"))
            }
            guard DispatchTime.now() < end else {
                throw Failure.timeout(waitingFor: what, out: out, err: text("err"))
            }
            usleep(2_000)
        }
    }

    /// Waits until it ends.
    ///
    /// - Throws: `Failure.timeout` after killing it if it takes too long.
    func finish() throws -> Result {
        guard isEnded.wait(timeout: .now() + Self.timeoutSeconds) == .success else {
            send(SIGKILL)
            throw Failure.timeout(waitingFor: "its end", out: out, err: text("err"))
        }
        let status = process.terminationStatus
        return Result(
            status: process.terminationReason == .uncaughtSignal ? -status : status, out: out,
            err: text("err"))
    }

    private func text(_ name: String) -> String {
        (try? String(contentsOf: files.url.appending(path: name), encoding: .utf8)) ?? ""
    }
}
