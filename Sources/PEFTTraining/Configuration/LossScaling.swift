/// By what the loss's gradient is multiplied, so that small gradients do not vanish in float16.
///
/// In a file and as a flag: `none`, `dynamic`, or a number above 0 for a scale that stays.
public enum LossScaling: Hashable, Sendable {
    /// By nothing.
    case none
    /// By a scale that halves when gradients overflow and doubles when they have not for long.
    case dynamic
    /// By this number.
    case fixed(Double)
}

extension LossScaling: ConfigParsable {
    package static var expectation: String { "none, dynamic or a number" }
    package static var placeholder: String { "none|dynamic|X" }

    package init?(_ value: OptionValue) {
        switch value.content {
        case .string("none"): self = .none
        case .string("dynamic"): self = .dynamic
        default:
            guard let number = Double(value) else { return nil }
            self = .fixed(number)
        }
    }

    package var optionValue: OptionValue {
        switch self {
        case .none: "none".optionValue
        case .dynamic: "dynamic".optionValue
        case .fixed(let scale): scale.optionValue
        }
    }
}

extension LossScaling: Codable {
    /// Reads a word or a number.
    public init(from decoder: any Decoder) throws {
        let container = try decoder.singleValueContainer()
        if let number = try? container.decode(Double.self) {
            self = .fixed(number)
            return
        }
        let word = try container.decode(String.self)
        guard let scaling = Self(OptionValue(.string(word))) else {
            throw DecodingError.dataCorruptedError(
                in: container, debugDescription: "expected \(Self.expectation), found \(word)")
        }
        self = scaling
    }

    /// Writes a word or a number.
    public func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        switch self {
        case .none: try container.encode("none")
        case .dynamic: try container.encode("dynamic")
        case .fixed(let scale): try container.encode(scale)
        }
    }
}
