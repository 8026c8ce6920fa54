/// The generator SplitMix64: 64 bits of state, the same numbers on every platform.
///
/// `state += 0x9E3779B97F4A7C15; z = state; z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9;
/// z = (z ^ z >> 27) * 0x94D049BB133111EB; output = z ^ z >> 31`, all modulo 2^64.
///
/// - Source: Steele, Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014, and
///   Vigna's `splitmix64.c`.
package struct SplitMix64: RandomNumberGenerator {
    private var state: UInt64

    /// Starts the generator at a state, which may be any value.
    package init(seed: UInt64) {
        state = seed
    }

    /// The next 64 uniform bits.
    package mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var mixed = state
        mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
        return mixed ^ (mixed >> 31)
    }

    /// A uniform number below `bound`: the high half of `next() * bound`, redrawn where that would
    /// be biased.
    ///
    /// Spelled out rather than taken from the standard library, whose method may change.
    ///
    /// - Source: Lemire, "Fast random integer generation in an interval", 2019, algorithm 5.
    /// - Precondition: `bound > 0`.
    package mutating func next(below bound: Int) -> Int {
        precondition(bound > 0, "no number lies below \(bound)")
        let range = UInt64(bound)
        let rejected = (0 &- range) % range
        var product = next().multipliedFullWidth(by: range)
        while product.low < rejected {
            product = next().multipliedFullWidth(by: range)
        }
        return Int(product.high)
    }
}

/// An order of `0..<count` that depends only on (seed, epoch).
///
/// Fisher-Yates from the back: for i = count-1 ... 1, element i is exchanged with element j, j uniform
/// in 0...i, drawn from SplitMix64. The generator starts at the first output of a SplitMix64 that
/// starts at `seed`, plus `epoch`: so equal epochs of neighbouring seeds are unrelated, too.
///
/// - Parameters:
///   - count: how many elements.
///   - seed: the run's seed.
///   - epoch: the number of the pass over the data, from 0.
/// - Returns: each of `0..<count` once.
/// - Complexity: O(count).
package func seededPermutation(count: Int, seed: UInt64, epoch: Int) -> [Int] {
    var seeder = SplitMix64(seed: seed)
    var generator = SplitMix64(seed: seeder.next() &+ UInt64(truncatingIfNeeded: epoch))
    var order = Array(0..<count)
    for last in stride(from: count - 1, to: 0, by: -1) {
        order.swapAt(last, generator.next(below: last + 1))
    }
    return order
}
