import PEFTTokenizers

/// How much better than its base a model likes good completions, and how much less bad ones, as TRL reports it.
public struct RewardMetrics: Codable, Equatable, Sendable {
    /// The mean reward of good completions; nil where there was none.
    public var chosen: Double?
    /// The mean reward of bad completions; nil where there was none.
    public var rejected: Double?
    /// The share of pairs in which the good completion has the greater reward; nil where rows are no pairs.
    public var accuracy: Double?

    /// Makes metrics.
    public init(chosen: Double?, rejected: Double?, accuracy: Double?) {
        (self.chosen, self.rejected, self.accuracy) = (chosen, rejected, accuracy)
    }

    /// By TRL's names.
    func values(prefix: String) -> [(String, Double)] {
        let margin = chosen.flatMap { chosen in rejected.map { chosen - $0 } }
        let named = [
            ("chosen", chosen), ("rejected", rejected), ("accuracies", accuracy),
            ("margins", margin),
        ]
        return named.compactMap { name, value in value.map { (prefix + "rewards/" + name, $0) } }
    }

    /// As JSON, by TRL's names.
    func entries(prefix: String) -> [(String, JSONValue)] {
        values(prefix: prefix).map { ($0.0, .double($0.1)) }
    }
}
