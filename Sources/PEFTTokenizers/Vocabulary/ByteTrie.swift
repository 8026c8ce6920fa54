/// A set of byte strings with values, searched leftmost-longest in a text.
package struct ByteTrie: Sendable {
    /// Where a string of the set is in the text.
    package struct Match: Sendable, Equatable {
        /// The first byte.
        package let start: Int
        /// The end of the last byte.
        package let end: Int
        /// The value of the string.
        package let value: Int
    }

    private struct Node: Sendable {
        var children: [UInt8: Int] = [:]
        var value = -1
    }

    private var nodes = [Node()]
    private var startsString = [Bool](repeating: false, count: 256)

    /// Makes an empty set.
    package init() {}

    /// Whether the set holds no string.
    package var isEmpty: Bool { nodes.count == 1 }

    /// Adds a string that is not empty; the first of several equal strings keeps its value.
    package mutating func insert(_ string: [UInt8], value: Int) {
        guard let first = string.first else { return }
        startsString[Int(first)] = true
        var node = 0
        for byte in string {
            if let child = nodes[node].children[byte] {
                node = child
            } else {
                nodes[node].children[byte] = nodes.count
                node = nodes.count
                nodes.append(Node())
            }
        }
        if nodes[node].value < 0 { nodes[node].value = value }
    }

    /// The first match that starts at `from` or later; of several there, the longest.
    package func firstMatch(in text: UnsafeBufferPointer<UInt8>, from: Int) -> Match? {
        startsString.withUnsafeBufferPointer { startsString in
            var start = from
            while start < text.count {
                if startsString[Int(text[start])], let match = longestMatch(in: text, at: start) {
                    return match
                }
                start += 1
            }
            return nil
        }
    }

    private func longestMatch(in text: UnsafeBufferPointer<UInt8>, at start: Int) -> Match? {
        var node = 0
        var position = start
        var best: Match?
        while position < text.count, let child = nodes[node].children[text[position]] {
            node = child
            position += 1
            if nodes[node].value >= 0 {
                best = Match(start: start, end: position, value: nodes[node].value)
            }
        }
        return best
    }
}
