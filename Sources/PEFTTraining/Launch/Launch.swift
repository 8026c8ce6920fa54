import Foundation
import PEFTLayers

/// Starts the processes of a run on this machine and looks after them: what `peft launch` does.
///
/// They find each other by the variables that torchrun sets, so a run is the same under either. Each is in a process group of its
/// own: the terminal's Ctrl-C reaches this process alone, which passes it on.
public enum Launch {
    /// The variable that tells a process whom it must not outlive.
    package static let parentVariable = "PEFT_LAUNCHER_PID"

    /// Where the launcher writes.
    public struct Streams {
        /// Writes to standard error.
        public var err: (String) -> Void
        /// Whether standard error is a terminal, which rank 0 then gets for itself.
        public var isTerminal: Bool

        /// Names where to write.
        public init(err: @escaping (String) -> Void, isTerminal: Bool) {
            self.err = err
            self.isTerminal = isTerminal
        }
    }

    /// Runs all processes to their end.
    ///
    /// - Parameters:
    ///   - options: how many, and with which arguments.
    ///   - executable: the program that each of them is.
    ///   - environment: what their variables are added to.
    ///   - stop: the signals to pass on; after the second one, processes that do not end are killed.
    ///   - streams: where the lines of the processes go, with the rank in front; standard output is rank 0's alone.
    /// - Returns: 0, or the status of the first process that failed: 128 + its signal if one ended it.
    /// - Throws: ``LaunchFailure`` if the port is taken or `InstructionSetError` if the environment chooses one that is not there,
    ///   before anything is started; `CheckpointError` if the program cannot be started.
    public static func run(
        _ options: LaunchOptions, executable: String, environment: [String: String],
        stop: StopRequest, streams: Streams
    ) throws -> Int32 {
        _ = try InstructionSet.chosen(in: environment)
        if let port = options.port { try LaunchPort.requireFree(port) }
        var restartCount = 0
        while true {
            let attempt = LaunchAttempt(
                options, stop: stop, streams: streams, restartCount: restartCount)
            let status = try attempt.run(executable: executable, environment: environment)
            guard status != 0, stop.signal == nil, restartCount < options.maxRestarts else {
                return status
            }
            restartCount += 1
            streams.err(
                "note: starting all ranks again (\(restartCount) of \(options.maxRestarts))\n")
        }
    }
}

/// One start of all processes, until the last of them has ended.
final class LaunchAttempt {
    private let options: LaunchOptions
    private let stop: StopRequest
    private let streams: Launch.Streams
    private let restartCount: Int
    private var children: [LaunchedProcess] = []
    private var firstFailure: Int32?
    private var deadline: ContinuousClock.Instant?
    private var hasTerminated = false
    private var numPassedOn = 0

    private static let pollMilliseconds: Int32 = 50

    /// Variables of other launchers, which would contradict ours.
    private static let foreignPrefixes = ["SLURM_", "OMPI_COMM_WORLD_"]

    init(
        _ options: LaunchOptions, stop: StopRequest, streams: Launch.Streams, restartCount: Int
    ) {
        self.options = options
        self.stop = stop
        self.streams = streams
        self.restartCount = restartCount
    }

    deinit {
        for child in children { child.send(SIGKILL) }
    }

    /// Starts all and waits; gives the status of the whole.
    func run(executable: String, environment: [String: String]) throws -> Int32 {
        let port = options.port ?? LaunchPort.free()
        for rank in 0..<options.nproc {
            children.append(
                try LaunchedProcess(
                    executable, options.arguments,
                    environment: variables(rank: rank, port: port, over: environment),
                    rank: rank, ownsTerminal: rank == 0 && streams.isTerminal))
        }
        while children.contains(where: { !$0.isDone }) {
            LaunchedProcess.wait(for: children, milliseconds: Self.pollMilliseconds)
            // First whether it has ended: then all that it wrote is in the pipe, and is forwarded.
            for child in children where child.reap() { note(child) }
            for child in children { child.forward(to: streams) }
            passSignalOn()
            endOverdue()
        }
        return firstFailure ?? 0
    }

    private func variables(
        rank: Int, port: Int, over environment: [String: String]
    ) -> [String: String] {
        var variables = environment.filter { name, _ in
            !Self.foreignPrefixes.contains { name.hasPrefix($0) }
        }
        let numCores = ProcessInfo.processInfo.activeProcessorCount
        if variables["OMP_NUM_THREADS"] == nil {
            variables["OMP_NUM_THREADS"] = "\(max(1, numCores / options.nproc))"
        }
        let own = [
            "RANK": "\(rank)", "LOCAL_RANK": "\(rank)", "WORLD_SIZE": "\(options.nproc)",
            "LOCAL_WORLD_SIZE": "\(options.nproc)", "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": "\(port)", "TORCHELASTIC_RUN_ID": "peft-launch",
            "TORCHELASTIC_RESTART_COUNT": "\(restartCount)",
            "TORCHELASTIC_MAX_RESTARTS": "\(options.maxRestarts)",
            "TORCHELASTIC_USE_AGENT_STORE": "False", Launch.parentVariable: "\(getpid())",
        ]
        return variables.merging(own) { $1 }
    }

    // MARK: - Ends

    /// Takes in how a process has ended; the first failure sets the clock for the others.
    private func note(_ child: LaunchedProcess) {
        guard let status = child.status, status != 0 else { return }
        guard firstFailure == nil else { return }
        firstFailure = status
        guard stop.signal == nil else { return }
        streams.err("peft: error: rank \(child.rank) \(child.endText)\n")
        deadline = .now + .seconds(options.graceSeconds)
    }

    private func passSignalOn() {
        guard let signal = stop.signal else { return }
        while numPassedOn < stop.count {
            numPassedOn += 1
            for child in children { child.send(signal) }
            // At the second signal a process ends at once; one that does not hangs.
            if numPassedOn == 2 { terminate() }
        }
    }

    /// Ends those that have not ended by themselves after a failure.
    private func endOverdue() {
        guard let deadline, .now > deadline else { return }
        if !hasTerminated {
            for child in children { child.send(SIGTERM) }
            return terminate()
        }
        for child in children { child.send(SIGKILL) }
    }

    /// Sets the clock for those that SIGTERM does not end.
    private func terminate() {
        hasTerminated = true
        deadline = .now + .seconds(options.killSeconds)
    }
}
