package import PEFT

/// What `peft merge` prints for people.
package enum MergeText {
    /// Layers that are named when most of their update is lost.
    private static let numLostShown = 5

    /// What was written, a table of what is left of the update, and warnings.
    package static func text(of report: MergeReport) -> String {
        let files =
            report.files.count == 1 ? report.files[0] : "\(report.files.count) weight files"
        var lines = [
            "merged \(NumberFormat.count(report.layers.count)) layers into \(report.output): "
                + "\(files), \(NumberFormat.bytes(report.sizeBytes)), in \(report.storage)",
            "the update was added to \(report.base)",
            "what is left of the update after rounding, and what rounding adds to it:",
        ]
        lines += table(report)
        for layer in report.lost.prefix(numLostShown) {
            lines.append(
                "warning: \(layer.path): \(percent(layer.survived)) of the update survives")
        }
        if report.lost.count > numLostShown {
            lines.append(
                "warning: and in \(report.lost.count - numLostShown) more layers most is lost")
        }
        lines += report.notes.map { "note: " + $0 }
        return lines.joined(separator: "\n") + "\n"
    }

    /// A line for the layers of one name, and one for all.
    private static func table(_ report: MergeReport) -> [String] {
        var order: [String] = []
        var groups: [String: [UpdateSurvival]] = [:]
        for layer in report.layers {
            let name = layer.path.split(separator: ".").dropLast().last.map(String.init) ?? ""
            if groups[name] == nil { order.append(name) }
            groups[name, default: []].append(layer)
        }
        let heads = ["layers", "count", "update/weight", "survives", "least", "noise"]
        let rows = order.map { name in row(name, groups[name] ?? []) }
        let all = order.count > 1 ? [row("all", report.layers)] : []
        return columns([heads] + rows + all)
    }

    private static func row(_ name: String, _ layers: [UpdateSurvival]) -> [String] {
        let total = UpdateSurvival.total(layers, path: name)
        return [
            name, NumberFormat.count(layers.count), percent(total.relativeUpdate),
            percent(total.survived), percent(layers.map(\.survived).min() ?? 1),
            percent(total.noise),
        ]
    }

    private static func columns(_ rows: [[String]]) -> [String] {
        let widths = (rows.first ?? []).indices.map { column in
            rows.map { $0[column].count }.max() ?? 0
        }
        return rows.map { row in
            let cells = row.enumerated().map { column, cell in
                let space = String(repeating: " ", count: widths[column] - cell.count)
                return column == 0 ? cell + space : space + cell
            }
            return "  " + cells.joined(separator: "  ")
        }
    }

    private static func percent(_ share: Double) -> String {
        guard share.isFinite else { return "-" }
        let value = share * 100
        let shown = NumberFormat.fixed(value, digits: value.magnitude < 10 ? 2 : 1)
        return (Double(shown) == 0 ? "0.00" : shown) + " %"
    }
}
