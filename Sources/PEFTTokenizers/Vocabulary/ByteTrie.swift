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

    /// What leads from one node to the next: an open-addressing table of node << 8 | byte.
    private struct Edge: Sendable {
        var key: UInt64
        var child: Int32
    }

    private static let noKey = UInt64.max
    private var edges = [Edge](repeating: Edge(key: noKey, child: -1), count: 64)
    /// The value of the string that ends at each node, or -1; node 0 is the root.
    private var values: [Int32] = [-1]
    private var startsString = [Bool](repeating: false, count: 256)

    /// Makes an empty set.
    package init() {}

    /// Whether the set holds no string.
    package var isEmpty: Bool { values.count == 1 }

    /// Adds a string that is not empty, with a value of 31 bits; the first of several equal strings
    /// keeps its value.
    package mutating func insert(_ string: [UInt8], value: Int) {
        guard let first = string.first else { return }
        startsString[Int(first)] = true
        var node: Int32 = 0
        for byte in string {
            var child = child(of: node, byte)
            if child < 0 {
                child = Int32(truncatingIfNeeded: values.count)
                values.append(-1)
                add(Edge(key: Self.key(node, byte), child: child))
            }
            node = child
        }
        if values[Int(node)] < 0 { values[Int(node)] = Int32(truncatingIfNeeded: value) }
    }

    private mutating func add(_ edge: Edge) {
        if values.count * 2 > edges.count {
            let old = edges
            edges = Array(repeating: Edge(key: Self.noKey, child: -1), count: old.count * 2)
            for edge in old where edge.key != Self.noKey { place(edge) }
        }
        place(edge)
    }

    private mutating func place(_ edge: Edge) {
        var slot = Self.slot(edge.key, edges.count)
        while edges[slot].key != Self.noKey { slot = (slot + 1) & (edges.count - 1) }
        edges[slot] = edge
    }

    @inline(__always)
    private static func key(_ node: Int32, _ byte: UInt8) -> UInt64 {
        UInt64(UInt32(bitPattern: node)) << 8 | UInt64(byte)
    }

    @inline(__always)
    private static func slot(_ key: UInt64, _ count: Int) -> Int {
        Int(truncatingIfNeeded: (key &* 0x9E37_79B9_7F4A_7C15) >> 32) & (count - 1)
    }

    /// The node that `byte` leads to, or -1.
    @inline(__always)
    private func child(of node: Int32, _ byte: UInt8) -> Int32 {
        edges.withUnsafeBufferPointer { edges in
            let key = Self.key(node, byte)
            var slot = Self.slot(key, edges.count)
            while edges[slot].key != Self.noKey {
                if edges[slot].key == key { return edges[slot].child }
                slot = (slot + 1) & (edges.count - 1)
            }
            return -1
        }
    }

    /// Calls `body` with the end and the value of each string that `text` has at `start`, shorter ones
    /// first.
    @inline(__always)
    package func forEachPrefix(
        of text: UnsafeBufferPointer<UInt8>, from start: Int, _ body: (Int, Int32) -> Void
    ) {
        var node: Int32 = 0
        var position = start
        while position < text.count {
            node = child(of: node, text[position])
            if node < 0 { return }
            position += 1
            let value = values[Int(node)]
            if value >= 0 { body(position, value) }
        }
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
        var best: Match?
        forEachPrefix(of: text, from: start) { end, value in
            best = Match(start: start, end: end, value: Int(value))
        }
        return best
    }
}
