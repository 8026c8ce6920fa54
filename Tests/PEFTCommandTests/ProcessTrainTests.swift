import Foundation
import PEFT
import TestSupport
import Testing
import TrainingTestSupport

/// `peft train` as a process: signals, resuming, what is on the disk afterwards.
@Suite(.serialized) struct ProcessTrainTests {
    private let workspace: Workspace
    private let flags: [String]

    init() throws {
        workspace = try Workspace()
        flags = [
            "--model", TinyModel.tied, "--data",
            try workspace.write(rows: TinyRows.make(23, lengths: 2...11)), "--dtype", "float32",
            "--lora-r", "4", "--lora-dropout", "0.1", "--packing", "--max-length", "24",
            "--per-device-train-batch-size", "1", "--gradient-accumulation-steps", "2",
            "--lr-scheduler-type", "constant", "--warmup-steps", "3", "--logging-steps", "1",
            "--threads", "1",
        ]
    }

    private func arguments(_ output: String, _ more: String...) -> [String] {
        ["train"] + flags + ["--output-dir", workspace.path(output)] + more
    }

    private func steps(_ output: String) -> [Int] {
        CheckpointFolder.list(in: URL(filePath: workspace.path(output))).map(\.step)
    }

    /// Runs to a step without interruption, and compares.
    private func expectEqualsUninterrupted(_ output: String, steps: Int) throws {
        let whole = try RunningProgram.run(arguments("whole", "--max-steps", "\(steps)"))
        #expect(whole.status == 0, "\(whole.err)")
        let found = try RunFiles.repeatableMetrics(in: workspace.path(output))
        #expect(found == (try RunFiles.repeatableMetrics(in: workspace.path("whole"))))
        #expect(found.map { $0["step"] } == (1...steps).map { .int($0) })
        for name in ["adapter_model.safetensors", "adapter_config.json"] {
            #expect(
                try RunFiles.bytes(workspace.path("\(output)/\(name)"))
                    == RunFiles.bytes(workspace.path("whole/\(name)")), "\(name)")
        }
    }

    @Test func printsWhatItDoesAndLeavesItsFiles() throws {
        let result = try RunningProgram.run(arguments("out", "--max-steps", "3"))
        #expect(result.status == 0)
        #expect(result.out == "")
        let rows = "rows: \(workspace.path("rows.jsonl")): 23 rows, "
        let lines = result.err.split(separator: "\n").map(String.init)
        #expect(lines[0].hasPrefix(rows), "\(lines[0])")
        let beginnings = [
            "model: llama, ", "adapter: ", "  self_attn.q_proj  LoRA  2/2 connected",
            "  self_attn.k_proj", "  self_attn.v_proj", "  self_attn.o_proj", "  mlp.gate_proj",
            "  mlp.up_proj", "  mlp.down_proj", "preflight: ready: all 28 trainable tensors are",
            "base: \(TinyModel.tied) (nf4, block 64, double quantized; compute float32, 1 thread)",
            "run: 3 steps, output in \(workspace.path("out"))", "step 1/3 ", "step 2/3 ",
            "step 3/3 ", "checkpoint of step 3: ", "done: 3 steps in ", "plan: ", "adapter: ",
        ]
        #expect(lines.count == beginnings.count + 1, "\(result.err)")
        for (line, beginning) in zip(lines.dropFirst(), beginnings) {
            #expect(line.hasPrefix(beginning), "\(line)")
        }
        #expect(
            try RunFiles.names(in: workspace.path("out")) == [
                "README.md", "adapter_config.json", "adapter_model.safetensors", "checkpoint-3",
                "metrics.jsonl",
            ])
    }

    @Test func configFileAndFlagsGiveTheSameRun() throws {
        let printed = try RunningProgram.run(
            arguments("flags", "--max-steps", "2", "--print-config"))
        #expect(printed.status == 0)
        let file = try workspace.write(printed.out, as: "run.yaml")
        let byFile = try RunningProgram.run(
            ["train", "--config", file, "--output-dir", workspace.path("file")])
        #expect(byFile.status == 0, "\(byFile.err)")
        try expectEqualsUninterrupted("file", steps: 2)
    }

    // MARK: - Signals

    @Test(arguments: [SIGINT, SIGTERM])
    func signalLeavesACheckpointFromWhichTheRunGoesOn(signal: Int32) throws {
        let endless = arguments(
            "out", "--max-steps", "1000000", "--save-steps", "0", "--json")
        let program = try RunningProgram(endless)
        try program.wait(until: "five steps are done") {
            program.out.contains(#""event": "step", "step": 5,"#)
        }
        program.send(signal)
        let result = try program.finish()
        #expect(result.status == 128 + signal, "\(result.err)")
        #expect(result.err.contains("note: stopping after this step; once more to stop at once"))
        let step = try #require(steps("out").last)
        let events = try result.out.split(separator: "\n").map {
            try #require(try JSONValue(parsing: String($0)).objectValue)
        }
        let name = signal == SIGINT ? "SIGINT" : "SIGTERM"
        #expect(
            events.last == ["event": "interrupted", "signal": .string(name), "step": .int(step)])
        #expect(
            try RunFiles.names(in: workspace.path("out")) == [
                "checkpoint-\(step)", "metrics.jsonl",
            ])
        let last = step + 3
        let resumed = try RunningProgram.run(
            arguments("out", "--max-steps", "\(last)", "--resume"))
        #expect(resumed.status == 0, "\(resumed.err)")
        try expectEqualsUninterrupted("out", steps: last)
    }

    /// Killed again and again at random moments, most of them while a checkpoint is written or removed.
    @Test func killedRunGoesOnFromItsLastCheckpoint() throws {
        let endless = arguments(
            "out", "--max-steps", "1000000", "--save-steps", "1", "--save-total-limit", "2",
            "--resume")
        var reached = 0
        for _ in 0..<3 {
            let program = try RunningProgram(endless)
            try program.wait(until: "a checkpoint after step \(reached)") {
                (self.steps("out").last ?? 0) > reached
            }
            let delay = UInt32.random(in: 0...20_000)
            usleep(delay)
            program.send(SIGKILL)
            #expect(try program.finish().status == -SIGKILL)
            let found = steps("out")
            #expect((1...3).contains(found.count), "after \(delay) microseconds: \(found)")
            for step in found {
                #expect(
                    try RunFiles.names(in: workspace.path("out/checkpoint-\(step)")) == [
                        "README.md", "adapter_config.json", "adapter_model.safetensors",
                        "optimizer.safetensors", "run_state.json",
                    ], "after \(delay) microseconds")
            }
            reached = try #require(found.last)
        }
        let last = reached + 2
        let resumed = try RunningProgram.run(
            arguments("out", "--max-steps", "\(last)", "--save-total-limit", "2", "--resume"))
        #expect(resumed.status == 0, "\(resumed.err)")
        let leftOvers = try RunFiles.names(in: workspace.path("out")).filter {
            $0.contains(".tmp-") || $0.contains(".replaced")
        }
        #expect(leftOvers == [])
        try expectEqualsUninterrupted("out", steps: last)
    }

    // MARK: - Refusals

    @Test func otherSettingsOrRowsAreRefusedWhenResuming() throws {
        #expect(try RunningProgram.run(arguments("out", "--max-steps", "2")).status == 0)
        let before = try RunFiles.bytes(workspace.path("out/adapter_model.safetensors"))
        let folder = workspace.path("out/checkpoint-2")
        let settings = try RunningProgram.run(
            arguments("out", "--max-steps", "3", "--resume", "--seed", "7", "--use-rslora"))
        #expect(settings.status == 1)
        #expect(
            settings.err.hasSuffix(
                """
                peft: error: \(folder): cannot resume, these settings change the mathematics of the \
                run: seed: expected 42, found 7, use_rslora: expected false, found true; use the \
                same settings, or another output_dir

                """), "\(settings.err)")
        try workspace.write(rows: TinyRows.make(22, lengths: 2...11))
        let rows = try RunningProgram.run(arguments("out", "--max-steps", "3", "--resume"))
        #expect(rows.status == 1)
        #expect(rows.err.contains("run: data: expected the same rows, found other rows; use the"))
        #expect(try RunFiles.bytes(workspace.path("out/adapter_model.safetensors")) == before)
    }

    @Test func aFolderWithARunIsKeptUnlessItIsOverwritten() throws {
        #expect(try RunningProgram.run(arguments("out", "--max-steps", "3")).status == 0)
        let refused = try RunningProgram.run(arguments("out", "--max-steps", "2"))
        #expect(refused.status == 1)
        #expect(
            refused.err == """
                peft: error: \(workspace.path("out")) already holds a run; give --resume to continue \
                it, --overwrite-output-dir to replace it, or another --output-dir

                """)
        #expect(steps("out") == [3])
        let replaced = try RunningProgram.run(
            arguments("out", "--max-steps", "2", "--overwrite-output-dir"))
        #expect(replaced.status == 0, "\(replaced.err)")
        #expect(steps("out") == [2])
        try expectEqualsUninterrupted("out", steps: 2)
    }

    // MARK: - A full disk

    /// The limit lets the metrics through and stops the optimizer's state (about 100 kB).
    @Test func noSpaceForACheckpointIsAnErrorAndLeavesNothingHalfWritten() throws {
        let result = try RunningProgram.run(
            arguments("out", "--max-steps", "2"), after: "ulimit -f 8")
        #expect(result.status == 1, "\(result.err)")
        let last = try #require(result.err.split(separator: "\n").last)
        #expect(
            last.hasPrefix("peft: error: \(workspace.path("out/checkpoint-2.tmp-"))"), "\(last)")
        #expect(
            last.hasSuffix(
                "/optimizer.safetensors: cannot be written: the file would exceed the size limit "
                    + "of this process; raise `ulimit -f`"), "\(last)")
        #expect(try RunFiles.names(in: workspace.path("out")) == ["metrics.jsonl"])
        let resumed = try RunningProgram.run(arguments("out", "--max-steps", "2", "--resume"))
        #expect(resumed.status == 0, "\(resumed.err)")
        try expectEqualsUninterrupted("out", steps: 2)
    }

    /// Whether this machine lets tests mount a small disk in a namespace of their own.
    private static let canMount: Bool = {
        let process = Process()
        process.executableURL = URL(filePath: "/bin/sh")
        process.arguments = ["-c", "unshare -rm mount -t tmpfs tmpfs /mnt 2>/dev/null"]
        guard (try? process.run()) != nil else { return false }
        process.waitUntilExit()
        return process.terminationStatus == 0
    }()

    @Test(.enabled(if: canMount, "this machine lets no user mount a small disk"))
    func fullDiskIsAnErrorAndKeepsTheLastCheckpoint() throws {
        let disk = workspace.path("disk")
        try FileManager.default.createDirectory(
            atPath: disk, withIntermediateDirectories: false)
        // The disk is seen by the program and by the shell around it only; somebody fills it while the run goes on.
        let shell = """
            mount -t tmpfs -o size=400k tmpfs \(disk)
            (until ls \(disk)/out | grep -q "^checkpoint-[0-9]*$"; do sleep 0.01; done; exec cat /dev/zero >\(disk)/filler) 2>/dev/null &
            "$0" "$@"; status=$?; kill $! 2>/dev/null; ls \(disk)/out; exit $status
            """
        let result = try RunningProgram.run(
            arguments(
                "disk/out", "--max-steps", "4000", "--save-steps", "2", "--save-total-limit", "2"),
            after: "exec unshare -rm bash -c '\(shell)' \"$0\" \"$@\"")
        #expect(result.status == 1, "\(result.err)")
        let names = result.out.split(separator: "\n")
        #expect(names.last == "metrics.jsonl")
        #expect((2...3).contains(names.count), "the ones that fitted stay: \(result.out)")
        #expect(!result.out.contains(".tmp-"), "\(result.out)")
        let last = try #require(result.err.split(separator: "\n").last)
        #expect(last.hasPrefix("peft: error: \(workspace.path("disk/out/"))"), "\(last)")
        #expect(
            last.hasSuffix(
                ": cannot be written: no space left on the disk; free some space or write to another "
                    + "disk"), "\(last)")
    }

    @Test(.enabled(if: canMount, "this machine lets no user mount a small disk"))
    func diskThatIsTooSmallIsAnErrorBeforeTheFirstStep() throws {
        let disk = workspace.path("disk")
        try FileManager.default.createDirectory(
            atPath: disk, withIntermediateDirectories: false)
        let shell = "mount -t tmpfs -o size=64k tmpfs \(disk); exec \"$0\" \"$@\""
        let result = try RunningProgram.run(
            arguments("disk/out", "--max-steps", "4", "--save-steps", "2"),
            after: "exec unshare -rm bash -c '\(shell)' \"$0\" \"$@\"")
        #expect(result.status == 1, "\(result.err)")
        #expect(
            result.err.contains(
                "peft: error: PEFT-R001: \(disk)/out: 2 checkpoints and the adapter take 0.1 MB, but "
            ), "\(result.err)")
        #expect(!result.err.contains("step 1/4"))
    }

    @Test func metricsThatCannotBeWrittenAreAnError() throws {
        let result = try RunningProgram.run(
            arguments("out", "--max-steps", "2000", "--save-steps", "0"), after: "ulimit -f 4")
        #expect(result.status == 1, "\(result.err)")
        let last = try #require(result.err.split(separator: "\n").last)
        #expect(
            last.hasPrefix(
                "peft: error: \(workspace.path("out/metrics.jsonl")): cannot be written: "),
            "\(last)")
    }
}
