package import PEFT

/// What was checked before the first step, for people.
package enum PreflightText {
    /// The characters of a sample that are shown.
    private static let sampleLength = 600

    /// All checks, the table of gradients, the sample and the verdict.
    package static func text(of report: PreflightReport) -> String {
        var lines: [String] = []
        for check in report.checks {
            let mark =
                switch check.outcome {
                case .passed: "ok  "
                case .warning: "note"
                case .failed: "FAIL"
                case .skipped: "-   "
                }
            let findings = check.findings.flatMap { $0.split(separator: "\n") }
            lines.append("\(mark) \(padded(check.topic, 13)) \(findings.first ?? "not checked")")
            lines += findings.dropFirst().map { String(repeating: " ", count: 19) + $0 }
        }
        if let gradients = report.gradients { lines += ["", "gradients:"] + table(gradients) }
        if let sample = report.sample {
            lines += ["", "row \(sample.row), learned parts in \u{27E6}brackets\u{27E7}:"]
            lines += text(of: sample).split(separator: "\n").map { "  " + $0 }
        }
        return (lines + ["", verdict(report)]).joined(separator: "\n") + "\n"
    }

    /// The table of gradients and the verdict, for a run that goes on.
    package static func summary(of report: PreflightReport) -> [String] {
        (report.gradients.map(table) ?? []) + [verdict(report)]
    }

    private static func verdict(_ report: PreflightReport) -> String {
        guard report.isReady else {
            return "preflight: NOT READY: this run would not do what is meant"
        }
        let tensors = NumberFormat.count(report.gradients?.numTensors ?? 0)
        let loss = report.loss.map { " (\(NumberFormat.loss($0)))" } ?? ""
        return "preflight: ready: all \(tensors) trainable tensors are connected to the loss\(loss)"
    }

    private static func table(_ gradients: GradientTable) -> [String] {
        let width = gradients.rows.map(\.module.count).max() ?? 0
        let methodWidth = gradients.rows.map(\.method.count).max() ?? 0
        return gradients.rows.map { row in
            let without =
                row.blocksWithout.isEmpty
                ? "" : ", not in blocks " + row.blocksWithout.joined(separator: ", ")
            return "  \(padded(row.module, width))  \(padded(row.method, methodWidth))  "
                + "\(row.numConnected)/\(row.numLayers) connected\(without)"
        }
    }

    private static func text(of sample: MaskedSample) -> String {
        let text = sample.pieces.map { $0.isLearned ? "\u{27E6}\($0.text)\u{27E7}" : $0.text }
            .joined()
        return text.count > sampleLength ? text.prefix(sampleLength) + "..." : text
    }

    private static func padded(_ text: String, _ width: Int) -> String {
        text + String(repeating: " ", count: max(0, width - text.count))
    }
}
