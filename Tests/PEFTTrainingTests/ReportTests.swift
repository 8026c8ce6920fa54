import Foundation
import PEFT
import PEFTTokenizers
import PEFTTraining
import TestSupport
import Testing
import TrainingTestSupport

/// What a run writes for TensorBoard and as a page.
@Suite struct ReportTests {
    /// The bytes of `scripts/fixtures/reports.py`, which TensorFlow's own record writer has made.
    @Test func eventFilesAreThoseOfTensorBoard() throws {
        let workspace = try Workspace()
        let log = try TensorBoardLog(in: workspace.url, startStep: 0) { 1234.5 }
        try log.append(
            JSONObject([
                ("step", .int(1)), ("loss", .double(2.5)), ("learning_rate", .double(1e-4)),
            ]))
        try log.append(JSONObject([("step", .int(300)), ("eval_loss", .double(0.125))]))
        try log.append(JSONObject([("step", .int(301)), ("skipped", .string("PEFT-N001"))]))
        let names = try RunFiles.names(in: workspace.path("runs"))
        #expect(names == ["events.out.tfevents.1234.0"])
        #expect(
            try RunFiles.bytes(workspace.path("runs/" + names[0]))
                == Data(contentsOf: Checkout.fixture("reports/events.tfevents")))
    }

    @Test func aResumedRunSaysFromWhereOn() throws {
        let workspace = try Workspace()
        _ = try TensorBoardLog(in: workspace.url, startStep: 40) { 1234.5 }
        #expect(
            try RunFiles.bytes(workspace.path("runs/events.out.tfevents.1234.40"))
                == Data(contentsOf: Checkout.fixture("reports/resumed.tfevents")))
    }

    private func makeRun() throws -> TinyRun {
        var run = try TinyRun(steps: 5)
        run.config.evalData = run.config.data
        run.config.evalSteps = 2
        run.config.reportTo = [.tensorboard, .html]
        return run
    }

    @Test func aRunWritesBoth() throws {
        let run = try makeRun()
        try run.run()
        let folder = run.config.outputDir
        let names = try RunFiles.names(in: folder)
        #expect(names.contains("report.html"))
        #expect(try RunFiles.names(in: folder + "/runs").count == 1)
        let page = try String(contentsOfFile: folder + "/report.html", encoding: .utf8)
        for part in [
            "Loss", "Learning rate", "Gradient norm", "Throughput", "Memory", "eval_loss",
            "Gradients before the first step", "self_attn.q_proj", "<polyline", "<mark>",
            "learning_rate: 0.005",
        ] {
            #expect(page.contains(part), "\(part)")
        }
        // Nothing is fetched.
        for part in ["http", "<script", "<link", "<img", "src="] {
            #expect(!page.contains(part), "\(part)")
        }
        // Well-formed: XML but for the type of the document and the element that never ends.
        let body = page.replacingOccurrences(of: "<!DOCTYPE html>", with: "")
            .replacingOccurrences(of: "<meta charset=\"utf-8\">", with: "")
        #expect(Self.opensWhatItCloses(body))
    }

    /// Whether every element that begins ends, in order.
    private static func opensWhatItCloses(_ text: String) -> Bool {
        var open: [Substring] = []
        for tag in text.matches(of: /<(\/?)([a-z0-9]+)[^>]*?(\/?)>/) {
            let name = tag.output.2
            if !tag.output.1.isEmpty {
                guard open.popLast() == name else { return false }
            } else if tag.output.3.isEmpty {
                open.append(name)
            }
        }
        return open.isEmpty
    }

    @Test func aResumedRunKeepsTheStepsBefore() throws {
        let stopped = try makeRun()
        try stopped.run(stopAfter: 3)
        let resumed = stopped.writing(to: "out") { $0.resume = true }
        try resumed.run()
        let page = try String(
            contentsOfFile: resumed.config.outputDir + "/report.html", encoding: .utf8)
        #expect(page.contains(">step 1<") && page.contains(">step 5<"))
        #expect(try RunFiles.names(in: resumed.config.outputDir + "/runs").count == 2)
    }

    @Test func overwritingRemovesReports() throws {
        let run = try makeRun()
        try run.run()
        let other = run.writing(to: "out") {
            $0.overwriteOutputDir = true
            $0.reportTo = []
        }
        try other.run()
        let names = try RunFiles.names(in: run.config.outputDir)
        #expect(!names.contains("report.html") && !names.contains("runs"))
    }
}
