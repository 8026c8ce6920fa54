public import Foundation

/// The time that a template's `strftime_now` tells: a date and time of day without a zone.
public struct TemplateTime: Sendable, Hashable {
    private var seconds: Int
    private var microseconds: Int

    /// Makes the time that clocks in `timeZone` show at `date`.
    public init(_ date: Date, in timeZone: TimeZone) {
        let local = date.timeIntervalSince1970 + Double(timeZone.secondsFromGMT(for: date))
        let whole = local.rounded(.down)
        seconds = Int(whole)
        microseconds = min(999_999, Int((local - whole) * 1e6))
    }

    /// The time on this machine's clock, in its time zone.
    public static var current: TemplateTime { TemplateTime(Date(), in: .current) }

    /// The time as C's `strftime` writes it in the C locale; `%f` are microseconds.
    func formatted(_ format: String) throws(TemplateError) -> String {
        // Python itself resolves %f, and %z and %Z, which are empty without a zone.
        var pattern = ""
        var rest = Array(format.unicodeScalars)[...]
        while let scalar = rest.popFirst() {
            guard scalar == "%", let directive = rest.popFirst() else {
                pattern.unicodeScalars.append(scalar)
                continue
            }
            switch directive {
            case "f": pattern += String(format: "%06d", microseconds)
            case "z", "Z": break
            default:
                pattern.unicodeScalars.append("%")
                pattern.unicodeScalars.append(directive)
            }
        }
        if pattern.isEmpty { return "" }
        var clock = time_t(seconds)
        var civil = tm()
        gmtime_r(&clock, &civil)
        civil.tm_isdst = -1
        // A mark at the end tells an empty result from a buffer that is too small.
        pattern += "."
        var buffer = [CChar](repeating: 0, count: 256)
        while buffer.count <= 1 << 20 {
            let count = strftime(&buffer, buffer.count, pattern, &civil)
            if count > 0 {
                let bytes = buffer.prefix(count - 1).map { UInt8(bitPattern: $0) }
                return String(decoding: bytes, as: UTF8.self)
            }
            buffer = [CChar](repeating: 0, count: buffer.count * 4)
        }
        throw TemplateError(.value, "strftime_now(): the format yields more than 1 MB")
    }
}
