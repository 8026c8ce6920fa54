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
}

extension ShardingStrategy: Codable {
    /// Reads the text form.
    public init(from decoder: any Decoder) throws {
        self = try .decoded(from: decoder)
    }

    /// Writes the text form.
    public func encode(to encoder: any Encoder) throws {
        try description.encode(to: encoder)
    }
}
