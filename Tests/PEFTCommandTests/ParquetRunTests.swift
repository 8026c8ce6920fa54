import Foundation
import PEFT
import TestSupport
import Testing
import TrainingTestSupport

/// Runs on rows in Parquet are, bit for bit, those on the same rows in JSON lines.
@Suite(.serialized) struct ParquetRunTests {
    private let workspace: Workspace
    private let rows = Checkout.fixture("parquet_rows/tokens-delta").path

    init() throws { workspace = try Workspace() }

    private func arguments(_ output: String, data: String, _ more: [String]) -> [String] {
        [
            "train", "--model", TinyModel.grouped, "--data", data, "--eval-data", data,
            "--output-dir", workspace.path(output), "--dtype", "float32", "--quant-block-size",
            "32", "--lora-r", "4", "--per-device-train-batch-size", "2", "--max-steps", "4",
            "--logging-steps", "1", "--threads", "1",
        ] + more
    }

    private func expectSame(_ first: String, _ second: String) throws {
        let metrics = try [first, second].map {
            try RunFiles.repeatableMetrics(in: workspace.path($0))
        }
        #expect(metrics[0].count >= 4)
        #expect(metrics[0] == metrics[1])
        let adapters = try [first, second].map {
            try RunFiles.bytes(workspace.path("\($0)/adapter_model.safetensors"))
        }
        #expect(adapters[0] == adapters[1])
    }

    @Test(arguments: [[], ["--packing", "--max-length", "24"], ["--dataset-streaming"]])
    func runsAreThoseOnJSONLines(flags: [String]) throws {
        for format in ["jsonl", "parquet"] {
            let result = try RunningProgram.run(
                arguments(format, data: "\(rows).\(format)", flags))
            #expect(result.status == 0, "\(result.err)")
            #expect(result.err.contains("rows: \(rows).\(format): 23 rows, "))
        }
        try expectSame("jsonl", "parquet")
    }

    /// Each process reads the file.
    @Test func soAreRunsOfTwoProcesses() throws {
        for format in ["jsonl", "parquet"] {
            let processes = try RankProcesses(
                "peft", environments: RankProcesses.environments(2),
                arguments: arguments(
                    format, data: "\(rows).\(format)", ["--ddp-timeout", "60"]))
            for result in try processes.finish(withinSeconds: 240) {
                #expect(result.status == 0, "\(result.err)")
            }
        }
        try expectSame("jsonl", "parquet")
    }

    @Test func rowsAreScoredToo() throws {
        let reports = try ["jsonl", "parquet"].map { format in
            let result = try RunningProgram.run([
                "score", "--model", TinyModel.grouped, "--data", "\(rows).\(format)", "--dtype",
                "float32", "--threads", "1",
            ])
            #expect(result.status == 0, "\(result.err)")
            #expect(!result.out.isEmpty)
            return result.out.replacing(".\(format)", with: "")
        }
        #expect(reports[0] == reports[1])
    }

    /// A row in error, and a program that was copied without its library: one message each, and nothing is written.
    @Test func errorsNameTheRowOrTheLibrary() throws {
        let file = Checkout.fixture("parquet_rows/negative-token.parquet").path
        let bad = try RunningProgram.run(arguments("out", data: file, []))
        #expect(bad.status == 1)
        #expect(
            bad.err.contains(
                "peft: error: row 2 of \(file): tokens[1]: expected a token id from 0 to \(Int32.max), found -4\n"
            ),
            "\(bad.err)")

        let program = URL(filePath: workspace.path("peft"))
        try FileManager.default.copyItem(at: RunningProgram.url(of: "peft"), to: program)
        let alone = try RunningProgram(program, arguments("out", data: rows + ".parquet", []))
            .finish()
        #expect(alone.status == 1)
        let message =
            "peft: error: \(rows).parquet: Parquet is read by libPEFTParquet.so, which cannot be loaded "
            + "(libPEFTParquet.so: cannot open shared object file: No such file or directory); "
            + "put it beside the program, as the build does, or write the rows as JSON lines\n"
        #expect(alone.err.contains(message), "\(alone.err)")
        try FileManager.default.copyItem(
            at: RunningProgram.url(of: "libPEFTParquet.so"),
            to: URL(filePath: workspace.path("libPEFTParquet.so")))
        let together = try RunningProgram(program, arguments("out", data: rows + ".parquet", []))
            .finish()
        #expect(together.status == 0, "\(together.err)")
    }
}
