import PEFTData
import PEFTTokenizers
import Testing

@Suite struct PackingTests {
    @Test func theTightestBinIsTakenFirst() {
        // 7, 6 open bins with room 3 and 4; 4 fits the second only, 3 then the first.
        #expect(packBestFitDecreasing(lengths: [3, 7, 4, 6], capacity: 10) == [[0, 1], [2, 3]])
    }

    @Test func equalRoomGoesToTheBinThatHadItFirst() {
        let bins = packBestFitDecreasing(lengths: [5, 5, 5, 4, 1], capacity: 9)
        #expect(bins == [[0, 3], [1, 4], [2]])
    }

    @Test func aFullSequenceIsAloneAndEmptyOnesFitAnywhere() {
        #expect(packBestFitDecreasing(lengths: [4, 0, 4], capacity: 4) == [[0, 1], [2]])
        #expect(packBestFitDecreasing(lengths: [], capacity: 4).isEmpty)
        #expect(packBestFitDecreasing(lengths: [1], capacity: 1) == [[0]])
    }

    @Test(arguments: 0..<50) func binsAreWholeDisjointAndBestFitting(seed: UInt64) {
        var generator = SplitMix64(seed: seed)
        let capacity = 1 + generator.next(below: 300)
        let lengths = (0..<generator.next(below: 400)).map { _ in
            1 + generator.next(below: capacity)
        }
        let bins = packBestFitDecreasing(lengths: lengths, capacity: capacity)
        let loads = bins.map { bin in bin.reduce(0) { $0 + lengths[$1] } }
        #expect(bins.flatMap { $0 }.sorted() == Array(lengths.indices))
        #expect(loads.allSatisfy { $0 <= capacity })
        #expect(bins.allSatisfy { $0 == $0.sorted() && !$0.isEmpty })
        #expect(bins == bins.sorted { $0[0] < $1[0] })
        #expect(bins == simplePacking(lengths, capacity))
    }

    @Test func binsAreThoseOfTRL() throws {
        let cases = try #require(fixture("packing.json").arrayValue)
        #expect(cases.count == 3)
        for expected in cases {
            let lengths = try #require(expected["lengths"]?.integers)
            let capacity = try #require(expected["capacity"]?.intValue)
            let bins = try #require(expected["bins"]?.arrayValue).compactMap(\.integers)
            let packed = packBestFitDecreasing(lengths: lengths, capacity: capacity)
            #expect(sorted(packed.map { $0.map { lengths[$0] } }) == sorted(bins))
        }
    }

    /// Bins by their lengths: rows of equal length are interchangeable, and the order is our own.
    private func sorted(_ bins: [[Int]]) -> [[Int]] {
        bins.map { $0.sorted() }.sorted { $0.lexicographicallyPrecedes($1) }
    }

    /// The definition, spelled out: quadratic, without any index.
    private func simplePacking(_ lengths: [Int], _ capacity: Int) -> [[Int]] {
        var bins: [(members: [Int], room: Int, since: Int)] = []
        let order = lengths.indices.sorted { (-lengths[$0], $0) < (-lengths[$1], $1) }
        for (turn, index) in order.enumerated() {
            let fitting = bins.indices.filter { bins[$0].room >= lengths[index] }
            let best = fitting.min {
                (bins[$0].room, bins[$0].since) < (bins[$1].room, bins[$1].since)
            }
            if let best {
                bins[best].members.append(index)
                bins[best].room -= lengths[index]
                bins[best].since = turn
            } else {
                bins.append(([index], capacity - lengths[index], turn))
            }
        }
        return bins.map { $0.members.sorted() }.sorted { $0[0] < $1[0] }
    }
}
