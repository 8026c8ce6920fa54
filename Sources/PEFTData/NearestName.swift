/// The known name that a name is a slip away from: other letter case, or one letter missing, too much,
/// wrong, or exchanged with its neighbour.
///
/// - Parameters:
///   - name: the name that was found.
///   - known: the names that could be meant, in order of preference.
/// - Returns: the first such known name; nil if there is none, or `name` is itself known.
package func nearestName(to name: String, among known: [String]) -> String? {
    guard !known.contains(name) else { return nil }
    let folded = Array(name.lowercased().utf8)
    return known.first { isOneSlipApart(folded, Array($0.lowercased().utf8)) }
}

private func isOneSlipApart(_ first: [UInt8], _ second: [UInt8]) -> Bool {
    let head = zip(first, second).prefix { $0 == $1 }.count
    let tail = zip(first[head...].reversed(), second[head...].reversed()).prefix { $0 == $1 }.count
    let left = first[head..<(first.count - tail)]
    let right = second[head..<(second.count - tail)]
    return left.count <= 1 && right.count <= 1
        || left.count == 2 && right.count == 2 && left.elementsEqual(right.reversed())
}
