import Foundation
import PEFTLayers
import Testing
import Torch

@Suite struct RandomSourceTests {
    @Test func numbersDependOnSeedAndPathAlone() throws {
        let source = RandomSource(seed: 1)
        let first = try source.tensor(at: "a", shape: [3, 4])
        let other = try source.tensor(at: "b", shape: [3, 4])
        #expect(try !first.isEqual(to: other))
        #expect(try RandomSource(seed: 1).tensor(at: "a", shape: [3, 4]).isEqual(to: first))
        #expect(try !RandomSource(seed: 2).tensor(at: "a", shape: [3, 4]).isEqual(to: first))
    }

    @Test(arguments: [
        ("proj.weight", [100, 100], 0.0), ("proj.bias", [10_000], 0.0),
        ("norm.weight", [10_000], 1.0),
    ])
    func normsAreDrawnAroundOneAndTheRestAroundZero(
        path: String, shape: [Int], mean: Double
    ) throws {
        let source = RandomSource(seed: 3, standardDeviation: 0.5)
        let values = try source.tensor(at: path, shape: shape).floats().map { Double($0) }
        let found = values.reduce(0, +) / 10_000
        let variance = values.reduce(0) { $0 + ($1 - found) * ($1 - found) } / 10_000
        // Five standard errors.
        #expect(abs(found - mean) < 0.025)
        #expect(abs(variance.squareRoot() - 0.5) < 0.018)
    }

    @Test func dtypeIsTheChosenOne() throws {
        let source = RandomSource(seed: 1, dtype: .bfloat16)
        let tensor = try source.tensor(at: "a", shape: [3])
        #expect(tensor.dtype == .bfloat16)
        let wide = try RandomSource(seed: 1).tensor(at: "a", shape: [3])
        #expect(try wide.to(.bfloat16).isEqual(to: tensor))
    }
}

@Suite struct ShapeSourceTests {
    @Test func recordsWhatWasAskedForAndTakesNoMemory() throws {
        let source = ShapeSource()
        let scope = Scope(registry: ModuleRegistry(), source: source) / "model"
        let before = MemoryStatistics.current().residentBytes
        let linear = try scope.linear(
            "proj", inFeatures: 1 << 16, outFeatures: 1 << 14, bias: true)
        #expect(MemoryStatistics.current().residentBytes - before < 1 << 24)
        #expect(linear.weight.sizeBytes == 1 << 32)
        #expect(
            source.shapes == [
                "model.proj.weight": [1 << 14, 1 << 16], "model.proj.bias": [1 << 14],
            ])
    }
}
