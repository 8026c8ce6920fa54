import Foundation
import PEFT
import TestSupport
import Testing
import TrainingTestSupport

/// `peft train` under PyTorch's own torchrun, started by the example: its store or ours, and its restarts.
@Suite(.serialized) struct TorchrunTests {
    private let workspace: Workspace
    private let rows: String

    init() throws {
        workspace = try Workspace()
        rows = try workspace.write(rows: TinyRows.make(24))
    }

    private func flags(_ output: String, rows numRows: Int, steps: Int) -> [String] {
        [
            "--model", TinyModel.grouped, "--data", rows, "--output-dir", workspace.path(output),
            "--dtype", "float32", "--lora-r", "4", "--learning-rate", "5e-3", "--logging-steps",
            "1", "--save-steps", "5", "--per-device-train-batch-size", "\(numRows)",
            "--max-steps", "\(steps)", "--threads", "1", "--ddp-timeout", "60",
        ]
    }

    /// Starts the example with two processes of one row each.
    private func torchrun(
        _ output: String, steps: Int, environment: [String: String] = [:]
    ) throws -> RunningProgram {
        // `make torchrun` leaves it there.
        let folder = Checkout.root.appending(path: ".cache/torchrun/bin").path
        return try RunningProgram(
            Checkout.root.appending(path: "Examples/launch/torchrun.sh"),
            flags(output, rows: 1, steps: steps),
            environment: [
                "PATH": "\(folder):/usr/bin:/bin", "PEFT": RunningProgram.url(of: "peft").path,
                "PORT": "\(RankProcesses.freePort())",
            ].merging(environment) { $1 })
    }

    private func trainInOneProcess(_ output: String, steps: Int) throws -> [Double] {
        let result = try RunningProgram.run(["train"] + flags(output, rows: 2, steps: steps))
        try #require(result.status == 0, "\(result.err)")
        return try RunFiles.metric("loss", in: workspace.path(output))
    }

    private func expectSame(_ output: String, _ expected: [Double]) throws {
        let found = try RunFiles.metric("loss", in: workspace.path(output))
        try #require(found.count == expected.count)
        #expect(
            zip(found, expected).allSatisfy {
                ($0 - $1).magnitude <= Tolerance.trainingLoss * $1.magnitude
            })
    }

    /// Its agents host the store where the processes meet, unless the user turns that off.
    @Test func processesMeetInItsStoreAndWithoutIt() throws {
        let expected = try trainInOneProcess("one", steps: 6)
        for (output, isOff) in [("its", "0"), ("ours", "1")] {
            let run = try torchrun(
                output, steps: 6, environment: ["TORCH_DISABLE_SHARE_RDZV_TCP_STORE": isOff])
            let result = try run.finish()
            #expect(result.status == 0, "\(result.err)")
            try expectSame(output, expected)
        }
    }

    /// The second start reads what the first left in the store that outlives it, if keys are not told apart.
    @Test func aRunThatLostAProcessGoesOnFromItsCheckpoint() throws {
        let numSteps = 100
        let undisturbed = try RankProcesses(
            "peft", environments: RankProcesses.environments(2),
            arguments: ["train"] + flags("whole", rows: 1, steps: numSteps))
        #expect(try undisturbed.finish().map(\.status) == [0, 0])
        let run = try torchrun("restarted", steps: numSteps)
        let folder = URL(filePath: workspace.path("restarted"))
        try run.wait(until: "a checkpoint") { !CheckpointFolder.list(in: folder).isEmpty }
        let ranks = RunningProcesses.all(
            with: workspace.url.lastPathComponent, variable: "LOCAL_RANK=1")
        try #require(ranks.count == 1)
        kill(ranks[0], SIGKILL)
        let result = try run.finish()
        #expect(result.status == 0, "\(result.err)")
        #expect(result.err.contains("run: steps "), "it began at step 1: \(result.err)")
        #expect(
            try RunFiles.metric("loss", in: workspace.path("restarted"))
                == RunFiles.metric("loss", in: workspace.path("whole")))
    }
}
