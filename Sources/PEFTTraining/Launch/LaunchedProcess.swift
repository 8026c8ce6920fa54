import Foundation
import PEFTCheckpoints

/// One process of a launch: its lines, and how it ended.
final class LaunchedProcess {
    /// Its number in the run.
    let rank: Int
    /// What a shell would report; nil while it runs.
    private(set) var status: Int32?

    /// What a pipe holds at most, unless its user has asked the kernel for more: 64 kB on Linux.
    private static let pipeCapacity = 65_536

    private let identifier: pid_t
    private var outputs: [Output] = []

    /// A pipe and what has come through it of a line that has not ended.
    private struct Output {
        let descriptor: Int32
        var rest: [UInt8] = []
        var isOpen = true
    }

    /// Starts a process in a process group of its own.
    ///
    /// Rank 0 keeps this process's standard output, and its standard error if `ownsTerminal`.
    init(
        _ executable: String, _ arguments: [String], environment: [String: String], rank: Int,
        ownsTerminal: Bool
    ) throws {
        self.rank = rank
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        var attributes = posix_spawnattr_t()
        posix_spawnattr_init(&attributes)
        defer { posix_spawnattr_destroy(&attributes) }
        var defaults = sigset_t()
        sigemptyset(&defaults)
        for signal in [SIGINT, SIGTERM, SIGUSR1, SIGPIPE] { sigaddset(&defaults, signal) }
        posix_spawnattr_setsigdefault(&attributes, &defaults)
        posix_spawnattr_setpgroup(&attributes, 0)
        // A thread of Dispatch blocks signals, and a process inherits that.
        var blocked = sigset_t()
        sigemptyset(&blocked)
        posix_spawnattr_setsigmask(&attributes, &blocked)
        posix_spawnattr_setflags(
            &attributes,
            Int16(POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK))
        var writeEnds: [Int32] = []
        defer { for end in writeEnds { close(end) } }
        for (descriptor, isPiped) in [(STDOUT_FILENO, rank > 0), (STDERR_FILENO, !ownsTerminal)]
        where isPiped {
            let (readEnd, writeEnd) = try Self.makePipe()
            writeEnds.append(writeEnd)
            posix_spawn_file_actions_adddup2(&actions, writeEnd, descriptor)
            outputs.append(Output(descriptor: readEnd))
        }
        var argv = ([executable] + arguments).map { strdup($0) } + [nil]
        var envp = environment.map { strdup("\($0)=\($1)") } + [nil]
        defer { for pointer in argv + envp { free(pointer) } }
        var identifier = pid_t()
        let code = posix_spawn(&identifier, executable, &actions, &attributes, &argv, &envp)
        guard code == 0 else {
            throw CheckpointError.cannotRead(
                path: executable,
                reason: "it cannot be started: \(String(cString: strerror(code)))",
                remedy: "check the program")
        }
        self.identifier = identifier
    }

    deinit {
        for output in outputs where output.isOpen { close(output.descriptor) }
    }

    /// A pipe whose ends no other process inherits.
    private static func makePipe() throws -> (readEnd: Int32, writeEnd: Int32) {
        var ends: [Int32] = [0, 0]
        guard pipe(&ends) == 0 else {
            throw CheckpointError.cannotRead(
                path: "a pipe", reason: String(cString: strerror(errno)),
                remedy: "raise `ulimit -n`")
        }
        for end in ends { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
        _ = fcntl(ends[0], F_SETFL, O_NONBLOCK)
        return (ends[0], ends[1])
    }

    /// Whether it has ended and all its lines are there.
    var isDone: Bool { status != nil && outputs.allSatisfy { !$0.isOpen } }

    /// How it ended: `ended with status 1`, `was killed by signal 9`.
    var endText: String {
        guard let status else { return "runs" }
        return status > 128 ? "was ended by signal \(status - 128)" : "ended with status \(status)"
    }

    /// Sends a signal, if it still runs.
    func send(_ signal: Int32) {
        if status == nil { kill(identifier, signal) }
    }

    /// Looks whether it has ended; true once, when it has.
    func reap() -> Bool {
        guard status == nil else { return false }
        var word: Int32 = 0
        guard waitpid(identifier, &word, WNOHANG) == identifier else { return false }
        let signal = word & 0x7f
        status = signal == 0 ? (word >> 8) & 0xff : 128 + signal
        return true
    }

    // MARK: - Lines

    /// Waits until one of the processes has written something, or the time is up.
    static func wait(for processes: [LaunchedProcess], milliseconds: Int32) {
        var polled = processes.flatMap(\.outputs).filter(\.isOpen).map {
            pollfd(fd: $0.descriptor, events: Int16(POLLIN), revents: 0)
        }
        poll(&polled, nfds_t(polled.count), milliseconds)
    }

    /// Passes whole lines on, each in one piece with the rank in front; at the end also what is left.
    ///
    /// The end is that of the pipe, or of the process: a child of its own may keep the pipe open, which nobody waits for.
    func forward(to streams: Launch.Streams) {
        for index in outputs.indices where outputs[index].isOpen {
            var buffer = [UInt8](repeating: 0, count: Self.pipeCapacity)
            var numBytes = 0
            var count = read(outputs[index].descriptor, &buffer, buffer.count)
            while count > 0 {
                outputs[index].rest += buffer[..<count]
                numBytes += count
                // Such a child may write faster than we read.
                if numBytes >= Self.pipeCapacity { break }
                count = read(outputs[index].descriptor, &buffer, buffer.count)
            }
            if count == 0 || status != nil {
                close(outputs[index].descriptor)
                outputs[index].isOpen = false
                if outputs[index].rest.last.map({ $0 != 0x0A }) ?? false {
                    outputs[index].rest.append(0x0A)
                }
            }
            guard let end = outputs[index].rest.lastIndex(of: 0x0A) else { continue }
            let lines = outputs[index].rest[..<end].split(
                separator: 0x0A, omittingEmptySubsequences: false)
            outputs[index].rest.removeFirst(end + 1)
            streams.err(
                lines.map { "[rank \(rank)] \(String(decoding: $0, as: UTF8.self))\n" }.joined())
        }
    }
}
