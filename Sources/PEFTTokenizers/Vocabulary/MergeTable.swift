/// The merges of a BPE model: for a pair of ids its rank and the id of the merged token.
///
/// - Complexity: look-up is O(1); one open-addressing table without deletion.
package struct MergeTable: Sendable {
    /// What a pair becomes.
    package struct Merge: Sendable, Equatable {
        /// The place of the merge in the file; lower ones come first.
        package var rank: UInt32
        /// The id of the merged token.
        package var id: Int32

        /// No merge.
        package static let none = Merge(rank: .max, id: -1)
    }

    private struct Slot: Sendable {
        var pair: UInt64
        var merge: Merge
    }

    private static let emptyPair = UInt64.max
    private var slots: [Slot]
    private let shift: UInt64

    /// Makes an empty table with room for `capacity` merges, which must not be exceeded.
    package init(capacity: Int) {
        var bits: UInt64 = 4
        while 1 << bits < capacity * 2 { bits += 1 }
        slots = Array(repeating: Slot(pair: Self.emptyPair, merge: .none), count: 1 << bits)
        shift = 64 - bits
    }

    /// What the pair becomes, or `.none`.
    @inline(__always)
    package subscript(left: Int32, right: Int32) -> Merge {
        slots.withUnsafeBufferPointer { slots in
            let pair = Self.pair(left, right)
            var slot = Self.slot(pair, shift)
            while slots[slot].pair != Self.emptyPair {
                if slots[slot].pair == pair { return slots[slot].merge }
                slot = (slot + 1) & (slots.count - 1)
            }
            return .none
        }
    }

    /// Sets what a pair becomes; the last of several settings counts.
    package mutating func set(_ left: Int32, _ right: Int32, _ merge: Merge) {
        let pair = Self.pair(left, right)
        var slot = Self.slot(pair, shift)
        while slots[slot].pair != Self.emptyPair, slots[slot].pair != pair {
            slot = (slot + 1) & (slots.count - 1)
        }
        slots[slot] = Slot(pair: pair, merge: merge)
    }

    @inline(__always)
    private static func pair(_ left: Int32, _ right: Int32) -> UInt64 {
        UInt64(UInt32(bitPattern: left)) << 32 | UInt64(UInt32(bitPattern: right))
    }

    @inline(__always)
    private static func slot(_ pair: UInt64, _ shift: UInt64) -> Int {
        Int(truncatingIfNeeded: (pair &* 0x9E37_79B9_7F4A_7C15) >> shift)
    }
}
