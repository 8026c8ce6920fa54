/// A number of bytes as people write it: `24GB`, `1.5 GiB`, `800 MB`.
public struct ByteCount: Hashable, Sendable {
    /// Bytes.
    public var bytes: Int

    /// Counts bytes.
    public init(_ bytes: Int) { self.bytes = bytes }

    /// Reads a number with a unit: kB, MB, GB, TB are powers of 1000, KiB, MiB, GiB, TiB of 1024, B or nothing is bytes.
    ///
    /// - Returns: nil for anything else, for less than nothing, and for what 64 bits do not hold.
    public init?(_ text: String) {
        let digits = text.prefix { $0.isASCII && ($0.isNumber || $0 == ".") }
        let unit = text.dropFirst(digits.count).drop { $0 == " " }.lowercased()
        guard let number = Double(digits), let factor = Self.units[unit] else { return nil }
        guard let bytes = Int(exactly: (number * factor).rounded()) else { return nil }
        self.bytes = bytes
    }

    private static let units: [String: Double] = [
        "": 1, "b": 1, "kb": 1e3, "mb": 1e6, "gb": 1e9, "tb": 1e12,
        "kib": 1024, "mib": 1_048_576, "gib": 1_073_741_824, "tib": 1_099_511_627_776,
    ]
}

extension ByteCount: ConfigParsable {
    package static var expectation: String { "a number of bytes such as 24GB or 800MiB" }
    package static var placeholder: String { "BYTES" }

    package init?(_ value: OptionValue) {
        switch value.content {
        case .integer(let bytes) where bytes >= 0: self.init(bytes)
        case .string(let text): self.init(text)
        default: return nil
        }
    }

    package var optionValue: OptionValue { bytes.optionValue }
}
