import PEFTData
import PEFTTokenizers
import Testing

@Suite struct SeededPermutationTests {
    @Test func splitMixGivesTheReferenceNumbers() {
        // The published example of splitmix64.c with the seed 1234567.
        var generator = SplitMix64(seed: 1_234_567)
        let expected: [UInt64] = [
            6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423,
            4_593_380_528_125_082_431, 16_408_922_859_458_223_821,
        ]
        #expect(expected.map { _ in generator.next() } == expected)
    }

    @Test(arguments: [1, 2, 3, 7, 1000]) func boundedNumbersStayBelowTheBound(bound: Int) {
        var generator = SplitMix64(seed: 5)
        let drawn = Set((0..<20 * bound).map { _ in generator.next(below: bound) })
        #expect(drawn.allSatisfy { (0..<bound).contains($0) })
        if bound < 10 { #expect(drawn.count == bound) }
    }

    @Test func ordersEqualThoseOfAnIndependentImplementation() throws {
        let cases = try #require(fixture("permutations.json").arrayValue)
        #expect(cases.count == 4)
        for expected in cases {
            let order = try #require(expected["order"]?.integers)
            let seed = try #require(expected["seed"].flatMap(unsigned))
            let epoch = try #require(expected["epoch"]?.intValue)
            #expect(seededPermutation(count: order.count, seed: seed, epoch: epoch) == order)
        }
    }

    /// A seed is written as a string, since JSON numbers end at 2^63 here.
    private func unsigned(_ value: JSONValue) -> UInt64? {
        value.stringValue.flatMap { UInt64($0) }
    }

    @Test(arguments: [0, 1, 2, 17, 1000]) func eachElementOccursOnce(count: Int) {
        let order = seededPermutation(count: count, seed: 3, epoch: 2)
        #expect(order.sorted() == Array(0..<count))
    }

    @Test func seedsAndEpochsGiveDifferentOrders() {
        let orders = (0..<20).map { index in
            seededPermutation(count: 50, seed: UInt64(index / 5), epoch: index % 5)
        }
        #expect(Set(orders).count == orders.count)
    }

    @Test func everyOrderOfThreeIsAboutEquallyFrequent() {
        var counts: [[Int]: Int] = [:]
        for epoch in 0..<6000 {
            counts[seededPermutation(count: 3, seed: 9, epoch: epoch), default: 0] += 1
        }
        #expect(counts.count == 6)
        #expect(counts.values.allSatisfy { (850...1150).contains($0) })
    }
}
