/// A hash table from byte strings to the order in which they were added.
///
/// The bytes of all strings lie in one array, so a table of 100,000 strings is a handful of
/// allocations.
///
/// - Complexity: look-up and insertion are O(length of the string).
package struct ByteStringTable: Sendable {
    private var bytes: [UInt8] = []
    private var ends: [Int] = []
    private var hashes: [UInt32] = []
    private var slots: [Int32]

    /// Makes an empty table with room for `capacity` strings.
    package init(capacity: Int = 16) {
        var numSlots = 32
        while numSlots < capacity * 2 { numSlots *= 2 }
        slots = [Int32](repeating: -1, count: numSlots)
    }

    /// The number of strings.
    package var count: Int { ends.count }

    /// The string that was added as number `index`.
    package subscript(index: Int) -> ArraySlice<UInt8> {
        bytes[(index == 0 ? 0 : ends[index - 1])..<ends[index]]
    }

    /// The number of `string`, or -1 if the table does not hold it.
    @inline(__always)
    package func find(_ string: UnsafeBufferPointer<UInt8>) -> Int {
        let hash = Self.hash(string)
        let mask = slots.count - 1
        return slots.withUnsafeBufferPointer { slots in
            var slot = Int(hash) & mask
            while slots[slot] >= 0 {
                let index = Int(slots[slot])
                if hashes[index] == hash, equals(index, string) { return index }
                slot = (slot + 1) & mask
            }
            return -1
        }
    }

    /// The number of `string`, or -1 if the table does not hold it.
    package func find(_ string: [UInt8]) -> Int { string.withUnsafeBufferPointer { find($0) } }

    /// Adds `string` unless the table holds it.
    ///
    /// - Returns: its number, and whether it is new.
    package mutating func insert(
        _ string: UnsafeBufferPointer<UInt8>
    ) -> (index: Int, isNew: Bool) {
        let existing = find(string)
        if existing >= 0 { return (existing, false) }
        if (ends.count + 1) * 2 > slots.count { grow() }
        let hash = Self.hash(string)
        let index = ends.count
        bytes.append(contentsOf: string)
        ends.append(bytes.count)
        hashes.append(hash)
        place(index, hash)
        return (index, true)
    }

    private mutating func place(_ index: Int, _ hash: UInt32) {
        let mask = slots.count - 1
        var slot = Int(hash) & mask
        while slots[slot] >= 0 { slot = (slot + 1) & mask }
        slots[slot] = Int32(truncatingIfNeeded: index)
    }

    private mutating func grow() {
        slots = [Int32](repeating: -1, count: slots.count * 2)
        for (index, hash) in hashes.enumerated() { place(index, hash) }
    }

    @inline(__always)
    private func equals(_ index: Int, _ string: UnsafeBufferPointer<UInt8>) -> Bool {
        let start = index == 0 ? 0 : ends[index - 1]
        guard ends[index] - start == string.count else { return false }
        return bytes.withUnsafeBufferPointer { bytes in
            for offset in 0..<string.count where bytes[start + offset] != string[offset] {
                return false
            }
            return true
        }
    }

    @inline(__always)
    private static func hash(_ string: UnsafeBufferPointer<UInt8>) -> UInt32 {
        let multiplier: UInt64 = 0x9E37_79B9_7F4A_7C15
        var hash = UInt64(truncatingIfNeeded: string.count) &* multiplier
        let raw = UnsafeRawBufferPointer(string)
        var position = 0
        while position + 8 <= raw.count {
            let word = raw.loadUnaligned(fromByteOffset: position, as: UInt64.self)
            hash = (hash ^ word) &* multiplier
            hash ^= hash >> 29
            position += 8
        }
        var tail: UInt64 = 0
        while position < raw.count {
            tail = tail << 8 | UInt64(raw[position])
            position += 1
        }
        hash = (hash ^ tail) &* multiplier
        return UInt32(truncatingIfNeeded: hash >> 32)
    }
}
