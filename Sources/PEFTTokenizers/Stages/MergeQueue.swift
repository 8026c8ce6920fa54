/// A token in the making: its id and how many bytes it covers; 0 once it is part of another one.
package struct BPESymbol: Sendable {
    /// The id.
    package var id: Int32
    /// The number of bytes.
    package var length: Int
    /// The merge with the symbol after this one (of the short way only).
    fileprivate var rank = UInt32.max
    /// The number of the symbol before this one, or -1 (of the long way only).
    fileprivate var previous: Int32 = -1
    /// The number of the symbol after this one, or -1 (of the long way only).
    fileprivate var next: Int32 = -1

    /// Makes a symbol.
    @inline(__always)
    package init(id: Int32, length: Int) {
        self.id = id
        self.length = length
    }
}

/// Applies merges: always the one of the lowest rank, of several such the leftmost.
package struct MergeQueue: Sendable {
    /// Up to this many symbols the lowest rank is searched afresh for each merge: O(n²), but faster.
    private static let maximumScanned = 48

    /// A binary heap of rank << 32 | number of the left symbol.
    private var heap: [UInt64] = []

    /// Makes an empty queue.
    package init() {}

    /// Merges neighbours until no merge is left; symbols of length 0 are to be ignored then.
    ///
    /// - Complexity: O(n log n) for n symbols.
    package mutating func apply(_ merges: MergeTable, to symbols: inout [BPESymbol]) {
        if symbols.count < 2 { return }
        if symbols.count <= Self.maximumScanned {
            Self.applyScanning(merges, to: &symbols)
        } else {
            applyQueueing(merges, to: &symbols)
        }
    }

    private static func applyScanning(_ merges: MergeTable, to symbols: inout [BPESymbol]) {
        symbols.withUnsafeMutableBufferPointer { symbols in
            var count = symbols.count
            for index in 0..<count - 1 {
                symbols[index].rank = merges[symbols[index].id, symbols[index + 1].id].rank
            }
            symbols[count - 1].rank = .max
            while true {
                var best = 0
                var bestRank = UInt32.max
                for index in 0..<count where symbols[index].rank < bestRank {
                    best = index
                    bestRank = symbols[index].rank
                }
                guard bestRank != .max else { break }
                symbols[best].id = merges[symbols[best].id, symbols[best + 1].id].id
                symbols[best].length += symbols[best + 1].length
                for index in best + 1..<count - 1 { symbols[index] = symbols[index + 1] }
                count -= 1
                let isLast = best + 1 == count
                symbols[best].rank =
                    isLast ? .max : merges[symbols[best].id, symbols[best + 1].id].rank
                if best > 0 {
                    symbols[best - 1].rank = merges[symbols[best - 1].id, symbols[best].id].rank
                }
            }
            for index in count..<symbols.count { symbols[index].length = 0 }
        }
    }

    private mutating func applyQueueing(_ merges: MergeTable, to symbols: inout [BPESymbol]) {
        heap.removeAll(keepingCapacity: true)
        for index in symbols.indices {
            symbols[index].previous = Int32(truncatingIfNeeded: index - 1)
            let isLast = index + 1 == symbols.count
            symbols[index].next = isLast ? -1 : Int32(truncatingIfNeeded: index + 1)
            push(index, symbols, merges)
        }
        while let top = pop() {
            let left = Int(top & 0xFFFF_FFFF)
            guard symbols[left].length > 0, symbols[left].next >= 0 else { continue }
            let right = Int(symbols[left].next)
            let merge = merges[symbols[left].id, symbols[right].id]
            guard merge.rank == UInt32(truncatingIfNeeded: top >> 32), merge.id >= 0 else {
                continue
            }
            symbols[left].id = merge.id
            symbols[left].length += symbols[right].length
            symbols[left].next = symbols[right].next
            symbols[right].length = 0
            if symbols[left].next >= 0 {
                symbols[Int(symbols[left].next)].previous = Int32(truncatingIfNeeded: left)
            }
            if symbols[left].previous >= 0 { push(Int(symbols[left].previous), symbols, merges) }
            push(left, symbols, merges)
        }
    }

    /// Queues the merge of a symbol with the next one, if there is one.
    @inline(__always)
    private mutating func push(_ left: Int, _ symbols: [BPESymbol], _ merges: MergeTable) {
        guard symbols[left].next >= 0 else { return }
        let rank = merges[symbols[left].id, symbols[Int(symbols[left].next)].id].rank
        guard rank != .max else { return }
        heap.append(UInt64(rank) << 32 | UInt64(left))
        var child = heap.count - 1
        while child > 0, heap[child] < heap[(child - 1) / 2] {
            heap.swapAt(child, (child - 1) / 2)
            child = (child - 1) / 2
        }
    }

    private mutating func pop() -> UInt64? {
        guard let top = heap.first, let last = heap.popLast() else { return nil }
        guard !heap.isEmpty else { return top }
        heap[0] = last
        var parent = 0
        while true {
            var child = 2 * parent + 1
            guard child < heap.count else { return top }
            if child + 1 < heap.count, heap[child + 1] < heap[child] { child += 1 }
            guard heap[child] < heap[parent] else { return top }
            heap.swapAt(child, parent)
            parent = child
        }
    }
}
