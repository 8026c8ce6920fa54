/// Counts what each part of a configuration matches, in the order in which the parts were declared.
struct Tally {
    private struct Row {
        let option: String
        let pattern: String
        var count = 0
        var dropReason: UnmatchedPattern.Reason?
    }

    private var rows: [Row] = []

    /// The counts of all that was declared.
    var matches: [PatternMatch] {
        rows.map { PatternMatch(option: $0.option, pattern: $0.pattern, numMatches: $0.count) }
    }

    /// Adds a part that must match something; once is enough.
    mutating func declare(_ option: String, _ pattern: String) {
        if rows.contains(where: { $0.option == option && $0.pattern == pattern }) { return }
        rows.append(Row(option: option, pattern: pattern))
    }

    /// Counts a match, or remembers why it does not count.
    mutating func count(
        _ option: String, _ pattern: String, droppedBecause reason: UnmatchedPattern.Reason? = nil
    ) {
        for index in rows.indices
        where rows[index].option == option && rows[index].pattern == pattern {
            if let reason {
                rows[index].dropReason = rows[index].dropReason ?? reason
            } else {
                rows[index].count += 1
            }
        }
    }

    /// Throws one error for all that matched nothing.
    ///
    /// - Parameter reason: the reason if there was no match that was dropped; gets the option and the pattern.
    /// - Throws: `AdapterError.unmatched`.
    func requireMatches(
        reason: (String, String) -> UnmatchedPattern.Reason
    ) throws(AdapterError) {
        let unmatched = rows.filter { $0.count == 0 }.map {
            UnmatchedPattern(
                option: $0.option, pattern: $0.pattern,
                reason: $0.dropReason ?? reason($0.option, $0.pattern))
        }
        if !unmatched.isEmpty { throw .unmatched(unmatched) }
    }
}
