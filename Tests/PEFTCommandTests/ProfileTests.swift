import Foundation
import PEFT
import TestSupport
import Testing
import TrainingTestSupport

/// `peft train --profile`: what the trace of a run holds, and where it cannot be written.
@Suite(.serialized) struct ProfileTests {
    private struct Event {
        let name: String
        let start: Double
        let end: Double

        func holds(_ other: Event) -> Bool { start <= other.start && other.end <= end }
    }

    private let workspace: Workspace
    private let arguments: [String]

    init() throws {
        workspace = try Workspace()
        arguments = [
            "train", "--model", TinyModel.tied, "--data",
            try workspace.write(rows: TinyRows.make(8)), "--output-dir", workspace.path("out"),
            "--threads", "1", "--per-device-train-batch-size", "2",
        ]
    }

    private func events(_ name: String) throws -> [Event] {
        let text = try String(contentsOfFile: workspace.path(name), encoding: .utf8)
        let root = try #require(try JSONValue(parsing: text).objectValue)
        return try #require(root["traceEvents"]?.arrayValue).compactMap { value in
            guard let event = value.objectValue, event["ph"]?.stringValue == "X",
                let name = event["name"]?.stringValue, let start = event["ts"]?.doubleValue,
                let length = event["dur"]?.doubleValue
            else { return nil }
            return Event(name: name, start: start, end: start + length)
        }
    }

    @Test func traceHoldsTwoStepsWithTheirOperations() throws {
        let trace = workspace.path("trace.json")
        // In float16 a linear layer is several operations on every processor; in other dtypes one kernel.
        let arguments =
            arguments + ["--max-steps", "4", "--dtype", "float16", "--loss-scaling", "8"]
        let result = try RunningProgram.run(arguments + ["--profile", trace])
        #expect(result.status == 0, "\(result.err)")
        #expect(result.err.contains("\(trace): profile of steps 2 to 3"))
        #expect(!result.err.contains("profiler_"))
        let events = try events("trace.json")
        let steps = events.filter { $0.name.hasPrefix("step ") }
        #expect(steps.map(\.name) == ["step 2", "step 3"])
        let names = ["forward", "backward", "optimizer"]
        let step = try #require(steps.first)
        let phases = try names.map { name in
            try #require(events.first { $0.name == name && step.holds($0) }, "\(name)")
        }
        let block = try #require(events.first { $0.name == "model.layers.0" })
        let linear = try #require(
            events.first { $0.name == "model.layers.0.self_attn.q_proj" })
        #expect(phases[0].holds(block) && block.holds(linear))
        #expect(events.contains { linear.holds($0) && $0.name == "dequantize" })
        #expect(events.contains { linear.holds($0) && $0.name == "aten::mm" })
        #expect(events.contains { phases[1].holds($0) && $0.name.contains("LoRA") })
        let losses = try RunFiles.metric("loss", in: workspace.path("out"))
        try FileManager.default.removeItem(atPath: workspace.path("out"))
        #expect(try RunningProgram.run(arguments).status == 0)
        #expect(try RunFiles.metric("loss", in: workspace.path("out")) == losses)
    }

    @Test func aRunOfOneStepIsRecordedToo() throws {
        let trace = workspace.path("trace.json")
        let result = try RunningProgram.run(
            arguments + ["--max-steps", "1", "--profile", trace])
        #expect(result.status == 0, "\(result.err)")
        #expect(try events("trace.json").contains { $0.name == "step 1" })
    }

    /// A step that is left out counts, so the record does not go on to the end of the run.
    @Test func aStepThatIsLeftOutIsOneOfTheRecordedOnes() throws {
        let rows = TinyRows.make(4) + [[40, 2, 3], [5, 6, 7]] + TinyRows.make(4)
        let trace = workspace.path("trace.json")
        let result = try RunningProgram.run([
            "train", "--model", try TinyModel.grouped(damagedAt: 40, in: workspace), "--data",
            try workspace.write(rows: rows, as: "damaged.jsonl"), "--output-dir",
            workspace.path("out"), "--dtype", "float32", "--threads", "1", "--no-shuffle",
            "--per-device-train-batch-size", "2", "--max-steps", "5", "--on-non-finite", "skip",
            "--profile", trace,
        ])
        #expect(result.status == 0, "\(result.err)")
        #expect(result.err.contains("\(trace): profile of steps 2 to 3"), "\(result.err)")
    }

    @Test func aTraceThatCannotBeWrittenEndsTheRunBeforeTheFirstStep() throws {
        let trace = workspace.path("none/trace.json")
        let result = try RunningProgram.run(arguments + ["--profile", trace])
        #expect(result.status == 1)
        #expect(result.err.contains("peft: error: \(trace): cannot be written"), "\(result.err)")
        #expect(!FileManager.default.fileExists(atPath: workspace.path("out/metrics.jsonl")))
    }
}
