import PEFTAdapters
import PEFTLayers
import Testing
import Torch

@Suite struct DropoutMaskTests {
    private static let key = DropoutKey(seed: 11, step: 3, microBatch: 0)

    private static func bits(
        _ probability: Double, _ shape: [Int], key: DropoutKey = key, path: String = "a"
    ) throws -> [Float] {
        try DropoutMask(probability: probability, shape: shape, key: key, path: path).kept.floats()
    }

    @Test(arguments: [0.01, 0.05, 0.1, 0.5, 0.9])
    func dropsTheShareThatWasAskedFor(probability: Double) throws {
        let count = 200_003.0
        let kept = try Self.bits(probability, [200_003]).reduce(0) { $0 + Double($1) }
        // Five standard deviations of a binomial count.
        let deviation = (count * probability * (1 - probability)).squareRoot()
        #expect((kept - count * (1 - probability)).magnitude < 5 * deviation)
    }

    @Test func neighboursAreIndependent() throws {
        let bits = try Self.bits(0.5, [100_000])
        for distance in [1, 2, 3, 4, 5, 64, 576] {
            let equal = zip(bits, bits.dropFirst(distance)).count { $0 == $1 }
            let count = Double(bits.count - distance)
            #expect((Double(equal) - count / 2).magnitude < 5 * (count / 4).squareRoot())
        }
    }

    @Test func dependsOnEachPartOfTheKey() throws {
        let keys = [
            Self.key, DropoutKey(seed: 12, step: 3, microBatch: 0),
            DropoutKey(seed: 11, step: 4, microBatch: 0),
            DropoutKey(seed: 11, step: 3, microBatch: 1),
        ]
        var masks = Set(try keys.map { key in try Self.bits(0.5, [64, 3], key: key) })
        masks.insert(try Self.bits(0.5, [64, 3], path: "b"))
        #expect(masks.count == 5)
        #expect(try masks.contains(Self.bits(0.5, [64, 3])))
    }

    @Test func scaleKeepsTheMean() throws {
        let mask = try DropoutMask(probability: 0.25, shape: [3], key: Self.key, path: "a")
        #expect(mask.scale == 4.0 / 3)
        #expect(mask.kept.shape == [3])
        let nearlyAll = try DropoutMask(
            probability: 0.999_999, shape: [3], key: Self.key, path: "a")
        #expect(nearlyAll.scale == 65536)
    }
}
