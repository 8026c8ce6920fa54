import Foundation
import PEFTCheckpoints
import PEFTTokenizers

/// A run as one page that needs nothing else: curves, the table of gradients, a sample of what is learned, settings.
///
/// It is made from `metrics.jsonl`, so that of a resumed run holds the steps before, too.
struct HTMLReport {
    private static let name = "report.html"

    /// What the run was told.
    let config: FineTuneConfig
    /// What was checked before its first step.
    let preflight: PreflightReport

    /// Writes the page into the output folder.
    ///
    /// - Throws: `CheckpointError.cannotWrite`.
    func write() throws {
        let folder = URL(filePath: config.outputDir)
        let log = try String(
            contentsOf: folder.appending(path: "metrics.jsonl"), encoding: .utf8)
        let lines = log.split(separator: "\n").compactMap {
            (try? JSONValue(parsing: String($0)))?.objectValue
        }
        try AtomicFile.write(
            Data(page(of: lines).utf8), to: folder.appending(path: Self.name))
    }

    /// The page of a run's metrics.
    func page(of lines: [JSONObject]) -> String {
        let title = "swift-peft: \(HTMLText.escaped(config.outputDir))"
        let sections = [
            charts(of: lines), evaluations(in: lines), gradients, sample, settings,
        ].filter { !$0.isEmpty }
        return """
            <!DOCTYPE html>
            <html lang="en"><head><meta charset="utf-8"><title>\(title)</title><style>
            body { font: 15px/1.5 sans-serif; max-width: 46rem; margin: 2rem auto; padding: 0 1rem; color: #222 }
            figure { margin: 1rem 0 } figcaption { font-weight: bold } svg { width: 100% }
            .grid { stroke: #ddd } .axis { font-size: 11px; fill: #666 }
            table { border-collapse: collapse; font-size: 13px } td, th { border: 1px solid #ddd; padding: 2px 8px; text-align: right }
            td:first-child, th:first-child { text-align: left } pre { white-space: pre-wrap; background: #f6f6f6; padding: .6rem }
            mark { background: #cdeccd }
            </style></head><body>
            <h1>\(title)</h1>
            \(sections.joined(separator: "\n"))
            </body></html>

            """
    }

    // MARK: - Sections

    private func charts(of lines: [JSONObject]) -> String {
        func line(_ key: String, _ name: String, scale: Double = 1) -> LineChart.Line {
            LineChart.Line(
                name: name,
                points: lines.compactMap { line in
                    guard let step = line["step"]?.intValue, let value = line[key]?.doubleValue
                    else { return nil }
                    return (step, value * scale)
                })
        }
        let heldOut = keys(in: lines).filter { $0.hasPrefix("eval_") && $0.hasSuffix("loss") }
        let rewards = keys(in: lines).filter { $0.hasPrefix("rewards/") }
        return [
            LineChart(
                title: "Loss",
                lines: [line("loss", "training")] + heldOut.map { line($0, $0) }),
            LineChart(
                title: "Learning rate", lines: [line("learning_rate", "learning rate")]),
            LineChart(title: "Gradient norm", lines: [line("grad_norm", "before clipping")]),
            LineChart(title: "Rewards", lines: rewards.map { line($0, $0) }),
            LineChart(
                title: "Throughput", lines: [line("tokens_per_second", "tokens a second")]),
            LineChart(
                title: "Memory",
                lines: [line("peak_memory_bytes", "peak of the process, MB", scale: 1e-6)]),
        ].compactMap(\.html).joined(separator: "\n")
    }

    private func keys(in lines: [JSONObject]) -> [String] {
        var keys: [String] = []
        for key in lines.flatMap(\.keys) where !keys.contains(key) { keys.append(key) }
        return keys
    }

    private func evaluations(in lines: [JSONObject]) -> String {
        let rows = lines.filter { $0.keys.contains { $0.hasPrefix("eval_") } }
        let columns = keys(in: rows)
        guard !rows.isEmpty else { return "" }
        return table(
            "Evaluations", columns,
            rows.map { row in columns.map { row[$0]?.serialized() ?? "" } })
    }

    private var gradients: String {
        guard let table = preflight.gradients else { return "" }
        return self.table(
            "Gradients before the first step", ["module", "method", "layers with gradient"],
            table.rows.map {
                [$0.module, $0.method, "\($0.numConnected) of \($0.numLayers)"]
            })
    }

    private var sample: String {
        guard let sample = preflight.sample else { return "" }
        let text = sample.pieces.map { piece in
            let text = HTMLText.escaped(piece.text)
            return piece.isLearned ? "<mark>\(text)</mark>" : text
        }
        return "<h2>Row \(sample.row), what is learned marked</h2><pre>\(text.joined())</pre>"
    }

    private var settings: String {
        "<h2>Settings</h2><pre>\(HTMLText.escaped(config.yamlText))</pre>"
    }

    private func table(_ title: String, _ columns: [String], _ rows: [[String]]) -> String {
        func row(_ cells: [String], _ tag: String) -> String {
            "<tr>" + cells.map { "<\(tag)>\(HTMLText.escaped($0))</\(tag)>" }.joined() + "</tr>"
        }
        return "<h2>\(HTMLText.escaped(title))</h2><table>\(row(columns, "th"))"
            + rows.map { row($0, "td") }.joined() + "</table>"
    }
}
