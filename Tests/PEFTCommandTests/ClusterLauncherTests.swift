import Foundation
import PEFT
import TestSupport
import Testing
import TrainingTestSupport

/// `peft train` under launchers of clusters, started by the examples as they stand, in two processes on this machine.
@Suite(.serialized) struct ClusterLauncherTests {
    /// Why a launcher cannot be used on this machine, as `make launchers` found; nil if it can.
    private static func problem(with launcher: String) -> String? {
        let path = Checkout.root.appending(path: ".cache/launchers/\(launcher)")
        guard let text = try? String(contentsOf: path, encoding: .utf8) else {
            return "`make launchers` has not been run"
        }
        return text.isEmpty ? nil : text.trimmingCharacters(in: .newlines)
    }

    private static let openMPIProblem = problem(with: "openmpi")
    private static let slurmProblem = problem(with: "slurm")

    // MARK: - Slurm

    /// Two nodes with a process each.
    @Suite(.serialized, .enabled(if: slurmProblem == nil, "Slurm: \(slurmProblem ?? "")"))
    struct SlurmTests {
        private let runs: ClusterRuns
        private let cluster: SlurmCluster

        init() throws {
            runs = try ClusterRuns()
            cluster = try SlurmCluster()
        }

        /// As `sbatch --wait`, which looks every few seconds only.
        private static let submitAndWait = """
            job=$(sbatch --parsable "$@") || exit
            while squeue --noheader --jobs="$job" | grep -q .; do sleep 0.1; done
            scontrol show job "$job" | grep -q JobState=COMPLETED
            """

        /// Starts the example, and waits for the job; what the job prints is in the file `<output>.log`.
        private func start(_ output: String, steps: Int) throws -> RunningProgram {
            try runs.start(
                "/bin/sh",
                [
                    "-c", Self.submitAndWait, "sh", "--ntasks-per-node=1",
                    "--output=\(runs.path(output)).log", ClusterRuns.example("slurm.sbatch"),
                ], output, steps: steps, environment: cluster.environment)
        }

        private func log(_ output: String) -> String {
            (try? String(contentsOfFile: runs.path(output) + ".log", encoding: .utf8)) ?? ""
        }

        @Test func twoJobsAtOnceAreTheRunOfOneProcess() throws {
            let jobs = try ["first", "second"].map { ($0, try start($0, steps: 6)) }
            let expected = try runs.trainInOneProcess(steps: 6)
            for (output, job) in jobs {
                #expect(try job.finish().status == 0, "\(log(output))")
                try runs.expectLosses(expected, output)
            }
        }

        /// Two jobs at once, since a job takes seconds to start: one loses a rank, the other is cancelled.
        @Test func aKilledRankIsNamedAndACancelledJobWritesACheckpoint() throws {
            let killed = try start("killed", steps: 1_000_000)
            let cancelled = try start("cancelled", steps: 1_000_000)
            try runs.kill("SLURM_PROCID=1", of: killed, "killed")
            #expect(try killed.finish().status != 0)
            #expect(log("killed").contains("rank 1"), "\(log("killed"))")

            try runs.waitForCheckpoint(of: cancelled, "cancelled")
            let cancel = try RunningProgram(
                URL(filePath: "/usr/bin/env"), ["scancel", "--state=RUNNING"],
                environment: cluster.environment)
            #expect(try cancel.finish().status == 0)
            #expect(try cancelled.finish().status != 0)
            try runs.expectCheckpointOfLastStep(
                "cancelled", signal: "SIGTERM", log: log("cancelled"))
        }
    }

    // MARK: - Open MPI

    /// Two slots of this machine.
    @Suite(.serialized, .enabled(if: openMPIProblem == nil, "Open MPI: \(openMPIProblem ?? "")"))
    struct OpenMPITests {
        private let runs: ClusterRuns

        init() throws { runs = try ClusterRuns() }

        private func start(_ output: String, steps: Int) throws -> RunningProgram {
            try runs.start(
                ClusterRuns.example("openmpi.sh"), [], output, steps: steps,
                environment: [
                    "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
                ])
        }

        @Test func twoRunsAtOnceAreTheRunOfOneProcess() throws {
            let started = try ["first", "second"].map { ($0, try start($0, steps: 6)) }
            let expected = try runs.trainInOneProcess(steps: 6)
            for (output, run) in started {
                let result = try run.finish()
                #expect(result.status == 0, "\(result.err)")
                try runs.expectLosses(expected, output)
            }
        }

        @Test func aKilledRankIsNamedAndEndsTheRun() throws {
            let run = try start("out", steps: 1_000_000)
            try runs.kill("OMPI_COMM_WORLD_RANK=1", of: run, "out")
            let result = try run.finish()
            #expect(result.status != 0)
            #expect(result.err.contains("rank 1"), "\(result.err)")
        }

        @Test func aSignalToTheExampleEndsWithACheckpoint() throws {
            let run = try start("out", steps: 1_000_000)
            try runs.waitForCheckpoint(of: run, "out")
            run.send(SIGTERM)
            let result = try run.finish()
            #expect(result.status != 0)
            try runs.expectCheckpointOfLastStep("out", signal: "SIGUSR1", log: result.err)
        }
    }
}

/// Runs of the tiny model under a launcher, and what is expected of them.
private final class ClusterRuns {
    private let workspace: Workspace
    private let rows: String

    init() throws {
        workspace = try Workspace()
        rows = try workspace.write(rows: TinyRows.make(24))
    }

    deinit {
        // A launcher that was killed leaves its processes behind.
        for process in RunningProcesses.all(with: workspace.url.lastPathComponent) {
            Glibc.kill(process, SIGKILL)
        }
    }

    static func example(_ name: String) -> String {
        Checkout.root.appending(path: "Examples/launch/\(name)").path
    }

    func path(_ output: String) -> String { workspace.path(output) }

    private func flags(_ output: String, rows numRows: Int, steps: Int) -> [String] {
        [
            "--model", TinyModel.grouped, "--data", rows, "--output-dir", path(output), "--dtype",
            "float32", "--lora-r", "4", "--learning-rate", "5e-3", "--logging-steps", "1",
            "--save-steps", "5", "--save-total-limit", "2", "--per-device-train-batch-size",
            "\(numRows)", "--max-steps", "\(steps)", "--threads", "1", "--ddp-timeout", "60",
        ]
    }

    /// Starts a program that starts two processes of one row each; what follows its arguments goes to `peft train`.
    func start(
        _ program: String, _ arguments: [String], _ output: String, steps: Int,
        environment: [String: String]
    ) throws -> RunningProgram {
        try RunningProgram(
            // A thread of Dispatch blocks signals, and a process inherits that.
            URL(filePath: "/usr/bin/env"),
            ["--default-signal", program] + arguments + flags(output, rows: 1, steps: steps),
            environment: ["PEFT": RunningProgram.url(of: "peft").path].merging(environment) { $1 })
    }

    func waitForCheckpoint(of run: RunningProgram, _ output: String) throws {
        let folder = URL(filePath: path(output))
        try run.wait(until: "a checkpoint") { !CheckpointFolder.list(in: folder).isEmpty }
    }

    /// Kills the process with a variable while it trains.
    func kill(_ variable: String, of run: RunningProgram, _ output: String) throws {
        try waitForCheckpoint(of: run, output)
        let ranks = RunningProcesses.all(with: path(output), variable: variable)
        try #require(ranks.count == 1)
        Glibc.kill(ranks[0], SIGKILL)
    }

    /// The losses of one process.
    func trainInOneProcess(steps: Int) throws -> [Double] {
        let result = try RunningProgram.run(["train"] + flags("one", rows: 2, steps: steps))
        try #require(result.status == 0, "\(result.err)")
        return try RunFiles.metric("loss", in: path("one"))
    }

    func expectLosses(_ expected: [Double], _ output: String) throws {
        let found = try RunFiles.metric("loss", in: path(output))
        try #require(found.count == expected.count)
        #expect(
            zip(found, expected).allSatisfy {
                ($0 - $1).magnitude <= Tolerance.trainingLoss * $1.magnitude
            })
    }

    func expectCheckpointOfLastStep(_ output: String, signal: String, log: String) throws {
        #expect(log.contains("stopped by \(signal)"), "\(log)")
        let last = try RunFiles.metric("step", in: path(output)).max()
        let list = CheckpointFolder.list(in: URL(filePath: path(output)))
        #expect(list.last.map { Double($0.step) } == last, "\(log)")
        #expect(RunningProcesses.all(with: workspace.url.lastPathComponent).isEmpty)
    }
}

/// A Slurm cluster of two nodes on this machine, as long as this object lives.
private final class SlurmCluster {
    /// The cluster ended before it was ready.
    private struct Failure: Error { let text: String }

    private let folder: Workspace
    private let process = Process()
    private let input = Pipe()

    init() throws {
        folder = try Workspace()
        let output = Pipe()
        process.executableURL = Checkout.root.appending(path: "Tests/Support/slurm_cluster.sh")
        process.arguments = [folder.url.path]
        process.standardInput = input
        process.standardOutput = output
        try process.run()
        let text = String(decoding: output.fileHandleForReading.availableData, as: UTF8.self)
        guard text == "ready\n" else { throw Failure(text: "see the messages above: \(text)") }
    }

    deinit {
        try? input.fileHandleForWriting.close()
        process.waitUntilExit()
    }

    /// What programs of Slurm are started with.
    var environment: [String: String] { ["SLURM_CONF": folder.path("slurm.conf")] }
}
