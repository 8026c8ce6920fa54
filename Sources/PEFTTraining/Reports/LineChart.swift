import Foundation

/// A chart of numbers by step, as SVG.
struct LineChart {
    /// One line.
    struct Line {
        let name: String
        let points: [(step: Int, value: Double)]
    }

    /// What the chart shows.
    let title: String
    /// The lines that have points.
    let lines: [Line]

    private static let (width, height) = (640.0, 220.0)
    private static let (left, right, top, bottom) = (72.0, 12.0, 10.0, 28.0)
    private static let colors = ["#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#8c564b"]

    /// Makes a chart; lines without finite points are left out.
    init(title: String, lines: [Line]) {
        self.title = title
        self.lines = lines.map { line in
            Line(name: line.name, points: line.points.filter { $0.value.isFinite })
        }.filter { !$0.points.isEmpty }
    }

    /// The chart as a part of a page; nil without points.
    var html: String? {
        let points = lines.flatMap(\.points)
        guard let lowest = points.map(\.value).min(), let highest = points.map(\.value).max(),
            let first = points.map(\.step).min(), let last = points.map(\.step).max()
        else { return nil }
        let span = highest > lowest ? highest - lowest : max(abs(highest), 1) * 0.1
        let low = highest > lowest ? lowest : lowest - span / 2
        func x(_ step: Int) -> Double {
            let share = Double(step - first) / Double(max(1, last - first))
            return Self.left + share * (Self.width - Self.left - Self.right)
        }
        func y(_ value: Double) -> Double {
            Self.height - Self.bottom
                - (value - low) / span * (Self.height - Self.top - Self.bottom)
        }
        var svg = "<svg viewBox=\"0 0 \(Int(Self.width)) \(Int(Self.height))\" role=\"img\">"
        for share in [0, 0.25, 0.5, 0.75, 1] {
            let value = low + share * span
            let height = Self.text(y(value))
            svg +=
                "<line class=\"grid\" x1=\"\(Self.text(Self.left))\" x2=\"\(Self.text(Self.width - Self.right))\" "
                + "y1=\"\(height)\" y2=\"\(height)\"/><text class=\"axis\" text-anchor=\"end\" "
                + "x=\"\(Self.text(Self.left - 6))\" y=\"\(Self.text(y(value) + 4))\">\(Self.label(value))</text>"
        }
        for (step, anchor) in [(first, "start"), (last, "end")] {
            svg +=
                "<text class=\"axis\" text-anchor=\"\(anchor)\" x=\"\(Self.text(x(step)))\" "
                + "y=\"\(Self.text(Self.height - 8))\">step \(step)</text>"
        }
        for (index, line) in lines.enumerated() {
            let color = Self.colors[index % Self.colors.count]
            if line.points.count == 1 {
                svg +=
                    "<circle r=\"3\" fill=\"\(color)\" cx=\"\(Self.text(x(line.points[0].step)))\" "
                    + "cy=\"\(Self.text(y(line.points[0].value)))\"/>"
                continue
            }
            let path = line.points.map { "\(Self.text(x($0.step))),\(Self.text(y($0.value)))" }
            svg +=
                "<polyline fill=\"none\" stroke=\"\(color)\" stroke-width=\"1.5\" points=\""
                + path.joined(separator: " ") + "\"/>"
        }
        let legend = lines.enumerated().map { index, line in
            "<span style=\"color:\(Self.colors[index % Self.colors.count])\">\(HTMLText.escaped(line.name))</span>"
        }
        return "<figure><figcaption>\(HTMLText.escaped(title)): \(legend.joined(separator: ", "))"
            + "</figcaption>\(svg)</svg></figure>"
    }

    private static func text(_ value: Double) -> String {
        String(format: "%.1f", value)
    }

    private static func label(_ value: Double) -> String {
        String(format: "%.4g", value)
    }
}

/// Text in a page.
enum HTMLText {
    /// The text with the characters that a page gives a meaning to written out.
    static func escaped(_ text: String) -> String {
        text.reduce(into: "") { result, character in
            switch character {
            case "&": result += "&amp;"
            case "<": result += "&lt;"
            case ">": result += "&gt;"
            case "\"": result += "&quot;"
            default: result.append(character)
            }
        }
    }
}
