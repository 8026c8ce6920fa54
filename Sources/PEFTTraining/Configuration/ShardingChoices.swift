public import PEFTSharding

/// What is kept out of memory.
public enum OffloadTarget: String, Codable, CaseIterable, Hashable, Sendable, ConfigChoice {
    /// Nothing.
    case none
    /// The frozen base: each process keeps its shards in files, and reads a block when it is needed.
    case base
    /// The optimizer's moments: in a file of each process, one tensor's in memory at a time.
    case optimizer
    /// Both.
    case all

    /// Whether the frozen base is out of memory.
    package var hasBase: Bool { self == .base || self == .all }
    /// Whether the optimizer's moments are out of memory.
    package var hasOptimizer: Bool { self == .optimizer || self == .all }

    /// This and another one.
    package func and(_ other: OffloadTarget) -> OffloadTarget {
        if self == .none || self == other { return other }
        return other == .none ? self : .all
    }
}

extension ShardingStrategy: ConfigParsable {
    package static var expectation: String { "full, grad-op, none or hybrid:<ranks per group>" }
    package static var placeholder: String { "full|grad-op|none|hybrid:N" }

    package init?(_ value: OptionValue) {
        guard case .string(let text) = value.content else { return nil }
        self.init(text)
    }

    package var optionValue: OptionValue { description.optionValue }
}

extension ShardingStrategy: Codable {
    /// Reads the text form.
    public init(from decoder: any Decoder) throws {
        let container = try decoder.singleValueContainer()
        let text = try container.decode(String.self)
        guard let strategy = Self(text) else {
            throw DecodingError.dataCorruptedError(
                in: container, debugDescription: "expected \(Self.expectation), found \(text)")
        }
        self = strategy
    }

    /// Writes the text form.
    public func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        try container.encode(description)
    }
}
