/// A hash that is the same in every process and on every machine (FNV-1a, 64 bit, finished as in SplitMix64).
///
/// - Source: Fowler, Noll, Vo; Steele et al. 2014, "Fast Splittable Pseudorandom Number Generators", figure 13.
public enum StableHash {
    /// Hashes a seed, a text and any integers.
    public static func of(_ seed: UInt64, _ text: String, _ integers: Int...) -> UInt64 {
        var state = State()
        state.mix(seed)
        for integer in integers { state.mix(UInt64(bitPattern: Int64(integer))) }
        for byte in text.utf8 { state.mix(byte) }
        return state.finished
    }

    /// Hashes a seed and a list of integers.
    public static func of(_ seed: UInt64, _ integers: [Int]) -> UInt64 {
        var state = State()
        state.mix(seed)
        for integer in integers { state.mix(UInt64(bitPattern: Int64(integer))) }
        return state.finished
    }

    /// Hashes bytes, eight at a time.
    ///
    /// - Complexity: some gigabytes a second.
    public static func of(_ bytes: UnsafeRawBufferPointer) -> UInt64 {
        var state = State()
        let numWords = bytes.count / 8
        for index in 0..<numWords {
            state.mixWhole(bytes.loadUnaligned(fromByteOffset: 8 * index, as: UInt64.self))
        }
        for byte in bytes[(8 * numWords)...] { state.mix(byte) }
        return state.finished
    }

    private struct State {
        private var hash: UInt64 = 0xcbf2_9ce4_8422_2325

        mutating func mix(_ byte: UInt8) {
            hash = (hash ^ UInt64(byte)) &* 0x100_0000_01b3
        }

        mutating func mixWhole(_ word: UInt64) {
            hash = (hash ^ word) &* 0x100_0000_01b3
        }

        mutating func mix(_ word: UInt64) {
            for shift in stride(from: 0, to: 64, by: 8) {
                mix(UInt8(truncatingIfNeeded: word >> UInt64(shift)))
            }
        }

        var finished: UInt64 {
            var hash = hash
            hash = (hash ^ (hash >> 30)) &* 0xbf58_476d_1ce4_e5b9
            hash = (hash ^ (hash >> 27)) &* 0x94d0_49bb_1331_11eb
            return hash ^ (hash >> 31)
        }
    }
}
