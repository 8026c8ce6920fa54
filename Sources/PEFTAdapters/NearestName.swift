/// Finds the name that a misspelled one was probably meant to be.
package enum NearestName {
    /// The candidate with the fewest edits from `name`; nil when none is close.
    ///
    /// Close means: one contains the other's words, or at most a third of the letters differ. Ties go
    /// to the earlier candidate.
    ///
    /// - Complexity: O(candidates · |name| · |candidate|)
    package static func of(_ name: String, in candidates: [String]) -> String? {
        let limit = max(2, name.count / 3)
        let ranked = candidates.map { ($0, distance(name, $0)) }
        let best = ranked.min { $0.1 < $1.1 }
        if let best, best.1 <= limit { return best.0 }
        return candidates.first { sharesEveryWord($0, name) }
    }

    /// The number of single-letter insertions, deletions, replacements and swaps of neighbours.
    ///
    /// - Source: optimal string alignment distance (Damerau 1964, restricted)
    package static func distance(_ left: String, _ right: String) -> Int {
        let (a, b) = (Array(left.lowercased().utf8), Array(right.lowercased().utf8))
        guard !a.isEmpty, !b.isEmpty else { return max(a.count, b.count) }
        var beforeLast: [Int] = []
        var last = Array(0...b.count)
        for i in 1...a.count {
            var row = [i] + [Int](repeating: 0, count: b.count)
            for j in 1...b.count {
                let replaced = last[j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1)
                row[j] = min(replaced, last[j] + 1, row[j - 1] + 1)
                if i > 1, j > 1, a[i - 1] == b[j - 2], a[i - 2] == b[j - 1] {
                    row[j] = min(row[j], beforeLast[j - 2] + 1)
                }
            }
            (beforeLast, last) = (last, row)
        }
        return last[b.count]
    }

    /// Whether all words of the shorter name occur in the longer one: `lr` in `lr_scheduler_type`.
    private static func sharesEveryWord(_ left: String, _ right: String) -> Bool {
        func words(_ name: String) -> Set<Substring> {
            Set(name.split { $0 == "_" || $0 == "-" })
        }
        let (a, b) = (words(left), words(right))
        return !a.isEmpty && !b.isEmpty && (a.isSubset(of: b) || b.isSubset(of: a))
    }

    /// The candidate with the fewest edits from `name`, however many; of equally near ones the first in the order of
    /// their text.
    package static func anyway(of name: String, in candidates: some Sequence<String>) -> String? {
        candidates.map { (distance(name, $0), $0) }.min(by: <)?.1
    }
}
