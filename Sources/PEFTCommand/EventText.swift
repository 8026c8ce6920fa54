import Foundation
package import PEFT

/// Training events in words; steps are shown by `Progress`.
package enum EventText {
    /// The lines that stay on the screen for an event.
    package static func lines(of event: TrainingEvent, usesColor: Bool) -> [String] {
        switch event {
        case .started(let run): lines(of: run)
        case .loaded(let model): lines(of: model)
        case .datasetAudit(let rows): lines(of: rows, usesColor: usesColor)
        case .preflight(let report): PreflightText.summary(of: report)
        case .step: []
        case .evaluation(let metrics):
            [line(of: metrics)]
        case .checkpointSaved(let path, let step): ["checkpoint of step \(step): \(path)"]
        case .interrupted(let signal, let step):
            [warning("stopped by \(signal) after step \(step); --resume continues", usesColor)]
        case .finished(let summary): lines(of: summary)
        case .warning(let diagnosis): [warning(diagnosis.description, usesColor)]
        case .notice(let text): [warning(text, usesColor)]
        }
    }

    private static func line(of metrics: EvaluationMetrics) -> String {
        let name = metrics.name.map { " of \($0)" } ?? ""
        let quality: String
        if let rewards = metrics.rewards {
            quality =
                rewards.accuracy.map {
                    "reward accuracy \(NumberFormat.fixed(100 * $0, digits: 1)) %, "
                } ?? ""
        } else {
            quality = "perplexity \(NumberFormat.fixed(metrics.evalPerplexity, digits: 2)), "
        }
        return "evaluation\(name) after step \(metrics.step): loss "
            + "\(NumberFormat.loss(metrics.evalLoss)), \(quality)"
            + "\(NumberFormat.count(metrics.evalNumTargetTokens)) target tokens"
    }

    private static func lines(of run: RunDescription) -> [String] {
        let steps =
            run.startStep > 0
            ? "steps \(run.startStep + 1) to \(run.totalSteps)" : "\(run.totalSteps) steps"
        let threads = run.numThreads == 1 ? "1 thread" : "\(run.numThreads) threads"
        return [
            "base: \(run.model) (\(run.quantization); compute \(run.dtype), \(threads))",
            "run: \(steps), output in \(run.outputDir)",
        ]
    }

    private static func lines(of model: ModelDescription) -> [String] {
        let share = 100 * Double(model.numTrainableParameters) / Double(max(1, model.numParameters))
        return [
            "model: \(model.architecture), \(NumberFormat.count(model.numParameters)) parameters in "
                + "\(NumberFormat.bytes(model.weightSizeBytes)), loaded in "
                + "\(NumberFormat.fixed(model.loadSeconds, digits: 1)) s",
            "adapter: \(NumberFormat.count(model.numTrainableParameters)) trainable parameters "
                + "(\(NumberFormat.fixed(share, digits: 2)) %) on "
                + "\(NumberFormat.count(model.numAdaptedLinears)) linears",
        ]
    }

    private static func lines(of rows: DatasetSummary, usesColor: Bool) -> [String] {
        var line =
            "rows: \(rows.path): \(NumberFormat.count(rows.numRows)) rows, "
            + "\(NumberFormat.count(rows.numTokens)) tokens, "
            + "\(NumberFormat.count(rows.numTargetTokens)) of them targets, "
            + "longest row \(NumberFormat.count(rows.maxRowTokens))"
        if rows.numTruncatedRows > 0 {
            line += ", \(NumberFormat.count(rows.numTruncatedRows)) rows cut"
        }
        return [line] + rows.warnings.map { warning("\(rows.path): \($0)", usesColor) }
    }

    private static func lines(of summary: RunSummary) -> [String] {
        var lines = [
            "done: \(summary.step) steps in \(NumberFormat.duration(summary.trainSeconds)), "
                + "\(NumberFormat.rate(summary.tokensPerSecond)) tokens/s, peak memory "
                + "\(NumberFormat.bytes(summary.peakMemoryBytes)), last loss "
                + NumberFormat.loss(summary.trainLoss)
        ]
        lines.append(
            "plan: \(NumberFormat.bytes(summary.plannedMemoryBytes)) at the peak, and it was "
                + difference(summary.peakMemoryBytes, summary.plannedMemoryBytes))
        if summary.plannedSentBytesPerStep > 0 {
            lines.append(
                "traffic: \(NumberFormat.bytes(summary.sentBytesPerStep)) sent a step, planned "
                    + NumberFormat.bytes(summary.plannedSentBytesPerStep))
        }
        if let last = summary.lastEvalLoss {
            let first = summary.firstEvalLoss.map { "\(NumberFormat.loss($0)) before, " } ?? ""
            lines.append("held-out loss: \(first)\(NumberFormat.loss(last)) after")
        }
        lines.append("adapter: \(summary.outputDir)")
        return lines
    }

    /// `3 % more`, `2 % less`.
    private static func difference(_ actual: Int, _ planned: Int) -> String {
        let percent = 100 * (Double(actual) / Double(max(1, planned)) - 1)
        return "\(NumberFormat.fixed(abs(percent), digits: 0)) % \(percent < 0 ? "less" : "more")"
    }

    private static func warning(_ text: String, _ usesColor: Bool) -> String {
        usesColor ? "\u{1B}[33mnote:\u{1B}[0m \(text)" : "note: \(text)"
    }
}
