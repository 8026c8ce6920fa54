import Foundation

/// Numbers as people read them; the same in every locale.
package enum NumberFormat {
    /// Groups of three digits: `1,234,567`.
    package static func count(_ number: Int) -> String {
        let digits = String(number.magnitude)
        var groups: [Substring] = []
        var rest = digits[...]
        while !rest.isEmpty {
            groups.append(rest.suffix(3))
            rest = rest.dropLast(3)
        }
        return (number < 0 ? "-" : "") + groups.reversed().joined(separator: ",")
    }

    /// Powers of ten: `987 MB`, `1.94 GB`.
    package static func bytes(_ number: Int) -> String {
        var value = Double(number)
        var units = ["B", "kB", "MB", "GB", "TB", "PB"][...]
        while value.rounded() >= 1000, units.count > 1 {
            value /= 1000
            units.removeFirst()
        }
        let unit = units.first ?? "PB"
        let hasFraction = unit != "B" && value < 10
        return fixed(value, digits: hasFraction ? 2 : value < 100 && unit != "B" ? 1 : 0) + " "
            + unit
    }

    /// Hours, minutes and seconds: `0:07`, `12:34`, `1:02:03`.
    package static func duration(_ seconds: Double) -> String {
        guard seconds.isFinite, seconds < 1e9 else { return "-:--" }
        let whole = max(0, Int(seconds.rounded()))
        let (hours, minutes) = (whole / 3600, whole / 60 % 60)
        let tail = padded(whole % 60)
        return hours > 0 ? "\(hours):\(padded(minutes)):\(tail)" : "\(minutes):\(tail)"
    }

    /// Four digits after the point: `2.1235`.
    package static func loss(_ value: Double) -> String { fixed(value, digits: 4) }

    /// Two digits and a power of ten: `2.0e-04`.
    package static func learningRate(_ value: Double) -> String { String(format: "%.1e", value) }

    /// Whole above 10, one digit after the point below: `1,234`, `7.5`.
    package static func rate(_ value: Double) -> String {
        guard value.isFinite, value.magnitude < 1e15 else { return "-" }
        return value >= 9.95 ? count(Int(value.rounded())) : fixed(value, digits: 1)
    }

    /// This many digits after the point.
    package static func fixed(_ value: Double, digits: Int) -> String {
        String(format: "%.\(digits)f", value)
    }

    private static func padded(_ number: Int) -> String { number < 10 ? "0\(number)" : "\(number)" }
}
