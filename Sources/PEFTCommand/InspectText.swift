package import PEFT

/// What `peft inspect` prints for people.
package enum InspectText {
    /// The facts in columns, then the tensors; equal tensors of all blocks share a line.
    package static func text(of report: InspectReport) -> String {
        var lines = ["\(report.path): \(report.kind)"]
        lines += factLines(report.facts, indent: "  ")
        if !report.tensors.isEmpty {
            lines += ["", "\(NumberFormat.count(report.tensors.count)) tensors:"]
            lines += tensorLines(report.tensors)
        }
        return lines.joined(separator: "\n") + "\n"
    }

    // MARK: - Facts

    /// Columns that a value may fill.
    private static let valueWidth = 72

    private static func factLines(_ facts: JSONObject, indent: String) -> [String] {
        let width = facts.map { $0.value.objectValue == nil ? $0.key.count : 0 }.max() ?? 0
        return facts.flatMap { key, value -> [String] in
            if let object = value.objectValue, !object.isEmpty {
                return [indent + key + ":"] + factLines(object, indent: indent + "  ")
            }
            return [indent + padded(key, width) + "  " + shown(value)]
        }
    }

    /// A value in one line; what is too long is counted or cut.
    private static func shown(_ value: JSONValue) -> String {
        let text =
            switch value {
            case .string(let text): text.replacing("\n", with: "\\n")
            case .int(let number): NumberFormat.count(number)
            default: value.serialized()
            }
        guard text.count > valueWidth else { return text }
        if let items = value.arrayValue { return "\(NumberFormat.count(items.count)) items" }
        return text.prefix(valueWidth - 3) + "..."
    }

    // MARK: - Tensors

    /// Tensors whose names differ in a block's index only.
    private struct Family: Hashable {
        var name: String
        var dtype: String
        var shape: [Int]
    }

    private static func tensorLines(_ tensors: [InspectReport.TensorEntry]) -> [String] {
        var order: [Family] = []
        var counts: [Family: Int] = [:]
        for tensor in tensors {
            let family = Family(
                name: withoutIndices(tensor.name), dtype: tensor.dtype, shape: tensor.shape)
            if counts.updateValue((counts[family] ?? 0) + 1, forKey: family) == nil {
                order.append(family)
            }
        }
        let nameWidth = order.map(\.name.count).max() ?? 0
        let dtypeWidth = order.map(\.dtype.count).max() ?? 0
        return order.map { family in
            let count = counts[family] ?? 1
            return "  " + padded(family.name, nameWidth) + "  " + padded(family.dtype, dtypeWidth)
                + "  [" + family.shape.map(String.init).joined(separator: ", ") + "]"
                + (count > 1 ? "  x \(count)" : "")
        }
    }

    /// The name with `*` for every part that is a number.
    private static func withoutIndices(_ name: String) -> String {
        name.split(separator: ".", omittingEmptySubsequences: false)
            .map { Int($0) == nil ? String($0) : "*" }
            .joined(separator: ".")
    }

    private static func padded(_ text: String, _ width: Int) -> String {
        text + String(repeating: " ", count: max(0, width - text.count))
    }
}
