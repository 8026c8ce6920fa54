import Foundation
import PEFT
import PEFTCommand
import PEFTTraining
import TestSupport
import Testing
import TrainingTestSupport

/// `peft launch`: lines, signals, failures, restarts; with small programs in the place of training, and with training.
@Suite(.serialized) struct LaunchTests {
    /// What a launch of shell commands printed, and its status.
    private func launch(
        _ script: String, nproc: Int = 2, isTerminal: Bool = false,
        stop: StopRequest = StopRequest(),
        change: (inout LaunchOptions) -> Void = { _ in }
    ) throws -> (status: Int32, err: [String]) {
        var options = LaunchOptions()
        options.nproc = nproc
        options.arguments = ["-c", script]
        change(&options)
        var err = ""
        let status = try Launch.run(
            options, executable: "/bin/sh",
            environment: ["PATH": "/usr/bin:/bin", "SLURM_PROCID": "9"],
            stop: stop,
            streams: Launch.Streams(
                err: { err += $0 }, isTerminal: isTerminal))
        func lines(_ text: String) -> [String] {
            text.split(separator: "\n").map(String.init).sorted()
        }
        return (status, lines(err))
    }

    @Test func everyRankHasItsVariablesAndItsPrefix() throws {
        let result = try launch(
            "echo $RANK $LOCAL_RANK $WORLD_SIZE $MASTER_ADDR $TORCHELASTIC_RESTART_COUNT "
                + "${SLURM_PROCID:-none} $OMP_NUM_THREADS >&2; test $MASTER_PORT -gt 0",
            nproc: 3)
        #expect(result.status == 0)
        let threads = max(1, ProcessInfo.processInfo.activeProcessorCount / 3)
        #expect(
            result.err == (0..<3).map { "[rank \($0)] \($0) \($0) 3 127.0.0.1 0 none \(threads)" })
    }

    /// Standard output is rank 0's alone, so that lines of JSON stay lines of JSON.
    @Test func whatOtherRanksPrintGoesToStandardError() throws {
        let result = try launch("if test $RANK = 1; then echo printed; fi")
        #expect(result.status == 0)
        #expect(result.err == ["[rank 1] printed"])
    }

    @Test func longLinesStayWholeAndLastLinesAreNotLost() throws {
        let result = try launch(
            "for i in 1 2 3 4; do head -c 70000 /dev/zero | tr '\\0' $RANK >&2; echo >&2; done; "
                + "printf end >&2", nproc: 3)
        #expect(result.status == 0)
        let expected = (0..<3).flatMap { rank in
            Array(
                repeating: "[rank \(rank)] " + String(repeating: "\(rank)", count: 70_000), count: 4
            )
                + ["[rank \(rank)] end"]
        }.sorted()
        #expect(result.err == expected)
    }

    @Test func theFirstFailureIsNamedAndEndsTheOthers() throws {
        let start = ContinuousClock.now
        let result = try launch("test $RANK = 0 || exit 3; exec sleep 100") {
            $0.graceSeconds = 0.2
        }
        #expect(result.status == 3)
        #expect(result.err == ["peft: error: rank 1 ended with status 3"])
        #expect(ContinuousClock.now - start < .seconds(60))
    }

    @Test func aProcessThatIgnoresTheEndIsKilled() throws {
        let result = try launch(
            "if test $RANK = 1; then kill -9 $$; fi; trap '' TERM; while :; do sleep 0.1; done"
        ) {
            $0.graceSeconds = 0.1
            $0.killSeconds = 0.1
        }
        #expect(result.status == 128 + 9)
        #expect(result.err == ["peft: error: rank 1 was ended by signal 9"])
    }

    @Test func aFailureStartsAllAgain() throws {
        let result = try launch(
            "echo $TORCHELASTIC_RESTART_COUNT >&2; test $TORCHELASTIC_RESTART_COUNT = 2"
        ) {
            $0.maxRestarts = 3
            $0.graceSeconds = 10
        }
        #expect(result.status == 0)
        for count in 0...2 {
            for rank in 0...1 { #expect(result.err.contains("[rank \(rank)] \(count)")) }
        }
        #expect(result.err.contains("note: starting all ranks again (2 of 3)"))
    }

    @Test func aSignalReachesEveryRankOnce() throws {
        let stop = StopRequest()
        stop.request(signal: SIGTERM)
        let result = try launch(
            "trap 'echo stopped >&2; exit 143' TERM; i=0; while test $i -lt 600; do sleep 0.1; i=$((i+1)); done",
            stop: stop)
        // A rank that the signal reaches before its trap is set ends at once.
        #expect(result.status == 143)
        #expect(result.err.allSatisfy { $0.hasSuffix("stopped") } && result.err.count <= 2)
    }

    @Test(arguments: [
        (["launch", "--nproc", "2"], "found nothing"),
        (["launch", "--nproc", "2", "--", "inspect", "x"], "found 'inspect'"),
        (["launch", "--nproc", "0", "--", "train"], "nproc"),
    ])
    func wrongUseIsRefused(arguments: [String], message: String) {
        let result = run(arguments)
        #expect(result.status == 2)
        #expect(result.output.err.contains(message), "\(result.output.err)")
    }

    @Test func whatFollowsGoesToTheProcessesUnchanged() throws {
        let calls = Calls()
        let arguments = [
            "train", "--model", "m", "--data", "rows.jsonl", "--output-dir", "out", "--seed=5",
        ]
        let result = run(["launch", "--nproc", "3", "--"] + arguments, calls: calls)
        #expect(result.status == 0, "\(result.output.err)")
        #expect(calls.launchOptions?.arguments == arguments)
        #expect(calls.launchOptions?.nproc == 3)
    }

    @Test func aMistakeInWhatFollowsIsReportedOnce() {
        let calls = Calls()
        let result = run(
            ["launch", "--nproc", "4", "--", "train", "--model", "m", "--lora-rr", "3"],
            calls: calls)
        #expect(result.status == 2)
        #expect(calls.launchOptions == nil)
        #expect(result.output.err.components(separatedBy: "--lora-rr").count == 2)
        #expect(result.output.err.hasSuffix("'peft train --help' shows the options.\n"))
    }

    @Test func aPortThatIsTakenIsOneErrorBeforeAnythingStarts() throws {
        let listener = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        defer { close(listener) }
        try #require(listen(listener, 1) == 0)
        var address = sockaddr_in()
        var size = socklen_t(MemoryLayout<sockaddr_in>.size)
        withUnsafeMutablePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                _ = getsockname(listener, $0, &size)
            }
        }
        let port = Int(UInt16(bigEndian: address.sin_port))
        let failure = #expect(throws: LaunchFailure.self) {
            try launch("echo started >&2") { $0.port = port }
        }
        #expect(
            failure?.description
                == "--port \(port): rank 0 cannot listen there: Address already in use; "
                + "give another port, or none to take a free one")
    }

    @Test func everySignalIsPassedOn() throws {
        let stop = StopRequest()
        let script =
            "trap 'n=$((n+1)); echo $n >&2; test $n -lt 2 || exit 7' TERM; n=0; echo ready >&2; "
            + "while :; do sleep 0.05; done"
        var numReady = 0
        var options = LaunchOptions()
        options.nproc = 2
        options.arguments = ["-c", script]
        let status = try Launch.run(
            options, executable: "/bin/sh", environment: ["PATH": "/usr/bin:/bin"], stop: stop,
            streams: Launch.Streams(
                err: { text in
                    // The first signal when both are ready, the second when both had the first.
                    let lines = text.split(separator: "\n")
                    numReady += lines.filter { $0.hasSuffix("ready") || $0.hasSuffix(" 1") }.count
                    if numReady / 2 > stop.count { stop.request(signal: SIGTERM) }
                }, isTerminal: false))
        #expect(status == 7)
        #expect(stop.count == 2)
    }

    @Test func whatTheSecondSignalDoesNotEndIsKilled() throws {
        let stop = StopRequest()
        for _ in 0..<2 { stop.request(signal: SIGTERM) }
        let result = try launch("trap '' TERM; while :; do sleep 0.05; done", stop: stop) {
            $0.killSeconds = 0.5
        }
        #expect([128 + SIGKILL, 128 + SIGTERM].contains(result.status))
    }

    /// A child that a rank leaves behind has the pipe open, too.
    @Test func nobodyWaitsForWhatARankLeavesBehind() throws {
        let folder = try Workspace()
        let result = try launch(
            "(while test -d \(folder.url.path); do sleep 0.05; done) & echo done >&2", nproc: 1)
        // It returns though the child runs on, until the folder is gone.
        #expect(result.status == 0)
        #expect(result.err == ["[rank 0] done"])
        withExtendedLifetime(folder) {}
    }

    // MARK: - Training

    private func training(_ workspace: Workspace, steps: Int) throws -> [String] {
        [
            "launch", "--nproc", "2", "--", "train", "--model", TinyModel.grouped, "--data",
            try workspace.write(rows: TinyRows.make(12)), "--output-dir", workspace.path("out"),
            "--dtype", "float32", "--lora-r", "4", "--per-device-train-batch-size", "2",
            "--max-steps", "\(steps)", "--save-steps", "2", "--logging-steps", "1",
        ]
    }

    @Test func trainingRunsInTwoProcesses() throws {
        let workspace = try Workspace()
        let result = try RunningProgram.run(training(workspace, steps: 3))
        #expect(result.status == 0, "\(result.err)")
        #expect(result.err.contains("[rank 0] done: 3 steps"), "\(result.err)")
        #expect(!result.err.contains("[rank 1]"), "\(result.err)")
    }

    @Test func theExampleOfOneMachineRuns() throws {
        let workspace = try Workspace()
        let process = Process()
        process.executableURL = Checkout.root.appending(path: "Examples/launch/local.sh")
        process.environment = [
            "PATH": "/usr/bin:/bin", "PEFT": RunningProgram.url(of: "peft").path,
        ]
        process.arguments = Array(try training(workspace, steps: 2).dropFirst(5))
        process.standardError = FileHandle.nullDevice
        try process.run()
        process.waitUntilExit()
        #expect(process.terminationStatus == 0)
        #expect(try RunFiles.metric("loss", in: workspace.path("out")).count == 2)
    }

    /// The processes die with a launcher that has no chance to end them.
    @Test func nothingOutlivesALauncherThatIsKilled() throws {
        let workspace = try Workspace()
        let launcher = try RunningProgram(training(workspace, steps: 1_000_000))
        let folder = URL(filePath: workspace.path("out"))
        let deadline = ContinuousClock.now + .seconds(120)
        while CheckpointFolder.list(in: folder).isEmpty {
            try #require(ContinuousClock.now < deadline)
            usleep(20_000)
        }
        launcher.send(SIGKILL)
        _ = try launcher.finish()
        while !RunningProcesses.all(with: workspace.url.lastPathComponent).isEmpty {
            try #require(ContinuousClock.now < deadline, "processes survive their launcher")
            usleep(20_000)
        }
    }
}
