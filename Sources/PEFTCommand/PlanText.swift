package import PEFT

/// What `peft plan` prints for people.
package enum PlanText {
    /// Memory by part, traffic, verdict and proposals.
    package static func text(of report: PlanReport) -> String {
        let plan = report.plan
        var lines = report.assumptions.map { "note: \($0)" }
        let processes = plan.numRanks == 1 ? "1 process" : "\(plan.numRanks) processes"
        lines.append(
            "\(processes), micro-batches of up to \(NumberFormat.count(plan.numTokens)) tokens")
        lines.append("memory of a process at its peak:")
        let width = plan.parts.map(\.name.count).max() ?? 0
        for part in plan.parts where part.sizeBytes > 0 {
            let name = part.name.replacing("_", with: " ")
            lines.append("  " + row(name, NumberFormat.bytes(part.sizeBytes), width))
        }
        lines.append("  " + row("total", NumberFormat.bytes(plan.peakMemoryBytes), width))
        if plan.sentBytesPerStep > 0 {
            let seconds = report.trafficSeconds.map {
                ", at least \(NumberFormat.fixed($0, digits: 2)) s"
            }
            lines.append(
                "traffic: a process sends \(NumberFormat.bytes(plan.sentBytesPerStep)) a step"
                    + (seconds ?? ""))
        }
        lines += verdict(report)
        return lines.joined(separator: "\n") + "\n"
    }

    private static func verdict(_ report: PlanReport) -> [String] {
        guard let limit = report.memoryLimit, let fits = report.fits else { return [] }
        let proposals = report.proposals.map { proposal in
            "  " + proposal.changes.joined(separator: " ") + ": "
                + NumberFormat.bytes(proposal.plan.peakMemoryBytes)
        }
        let size = NumberFormat.bytes(limit)
        if fits {
            return ["fits into \(size)"]
                + (proposals.isEmpty ? [] : ["faster, and still fits:"] + proposals)
        }
        return ["does not fit into \(size)"]
            + (proposals.isEmpty
                ? ["no change of options fits: take a smaller model or --lora-r"]
                : ["what fits:"] + proposals)
    }

    private static func row(_ name: String, _ value: String, _ width: Int) -> String {
        name + String(repeating: " ", count: max(0, width - name.count)) + "  "
            + String(repeating: " ", count: max(0, 8 - value.count)) + value
    }
}
