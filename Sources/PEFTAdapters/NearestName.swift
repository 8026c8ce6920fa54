/// Finds the name that takes the fewest edits to reach.
///
/// - Parameters:
///   - name: a name that does not exist.
///   - candidates: the names that do.
///   - atMost: the number of edits above which no candidate counts as near.
/// - Returns: the nearest, of equally near ones the first in the order of their text; nil if none is near.
package func nearestName(
    to name: String, among candidates: some Sequence<String>, atMost: Int = .max
) -> String? {
    let edits = candidates.map { (editDistance(name, $0), $0) }
    guard let best = edits.min(by: <), best.0 <= atMost else { return nil }
    return best.1
}

/// The number of one-byte insertions, deletions and replacements between two texts (Levenshtein).
private func editDistance(_ first: String, _ second: String) -> Int {
    let second = Array(second.utf8)
    var row = Array(0...second.count)
    for (index, byte) in first.utf8.enumerated() {
        var diagonal = row[0]
        row[0] = index + 1
        for column in second.indices {
            let replaced = diagonal + (byte == second[column] ? 0 : 1)
            diagonal = row[column + 1]
            row[column + 1] = min(replaced, row[column] + 1, diagonal + 1)
        }
    }
    return row[second.count]
}
