/// The elements of an epoch that are drawn from several datasets by weight: a function of (seed, epoch).
///
/// Each draw chooses a dataset with probability `weight / sum of weights`, then takes its next element. A dataset that is used up begins
/// again in another order; each epoch begins all of them anew. So an epoch has as many elements as all datasets together, some of them
/// perhaps several times and others not at all.
struct MixtureOrder {
    /// The elements of each dataset.
    let parts: [[Int]]
    /// Their weights, above 0.
    let weights: [Double]
    /// Whether a dataset's elements come in a random order; else in their own.
    let shuffle: Bool
    /// The run's seed.
    let seed: UInt64

    /// What makes the generator of draws another than that of orders.
    private static let drawKey: UInt64 = 0x6D69_7874_7572_6521

    /// The elements of an epoch, in order.
    ///
    /// - Complexity: O(elements).
    func callAsFunction(epoch: Int) -> [Int] {
        let count = parts.reduce(0) { $0 + $1.count }
        var seeder = SplitMix64(seed: seed ^ Self.drawKey)
        var generator = SplitMix64(
            seed: seeder.next() &+ UInt64(truncatingIfNeeded: epoch))
        let total = weights.reduce(0, +)
        var passes = parts.indices.map { Pass(order: order($0, epoch: epoch, pass: 0)) }
        return (0..<count).map { _ in
            // 53 random bits are a uniform double in [0, 1).
            var rest = Double(generator.next() >> 11) * 0x1p-53 * total
            var part = 0
            while part < parts.count - 1, rest >= weights[part] {
                rest -= weights[part]
                part += 1
            }
            if passes[part].position == passes[part].order.count {
                let number = passes[part].number + 1
                passes[part] = Pass(
                    order: order(part, epoch: epoch, pass: number), number: number)
            }
            defer { passes[part].position += 1 }
            return passes[part].order[passes[part].position]
        }
    }

    private struct Pass {
        let order: [Int]
        var number = 0
        var position = 0
    }

    private func order(_ part: Int, epoch: Int, pass: Int) -> [Int] {
        guard shuffle else { return parts[part] }
        // Datasets and passes have seeds of their own.
        var seeder = SplitMix64(seed: seed &+ UInt64(part) &* 0x9E37_79B9 &+ UInt64(pass) << 32)
        return seededPermutation(count: parts[part].count, seed: seeder.next(), epoch: epoch)
            .map { parts[part][$0] }
    }
}
