import PEFTLayers
import TestSupport
import Testing
import Torch

@Suite struct RMSNormTests {
    private static let epsilon = 1e-5
    private static let shapes = [[1, 2], [3, 5], [1, 64], [17, 257]]

    private func makeNorm(_ hiddenSize: Int, dtype: DType = .float32) throws -> RMSNorm {
        let source = RandomSource(seed: 4, standardDeviation: 0.5, dtype: dtype)
        let scope = Scope(registry: ModuleRegistry(), source: source)
        return try RMSNorm(hiddenSize: hiddenSize, epsilon: Self.epsilon, scope / "norm")
    }

    /// The equation in plain operations.
    private func reference(_ input: Tensor, _ weight: Tensor) throws -> Tensor {
        let meanSquare = try input.power(2).mean([-1], keepDims: true)
        return try input * (meanSquare + Self.epsilon).rsqrt() * weight
    }

    @Test(arguments: shapes)
    func outputAndGradientsAreThoseOfTheEquation(shape: [Int]) throws {
        let norm = try makeNorm(shape[1])
        let weight = norm.weight.value
        try weight.setRequiresGrad(true)
        let input = try Tensor.random(shape, seed: 1)
        let found = try Differentiated([input]) { try norm($0[0]) }
        let expected = try Differentiated([input, weight]) { try reference($0[0], $0[1]) }
        try expectClose(found.output, expected.output)
        try expectClose(
            #require(found.gradients[0]), #require(expected.gradients[0]), Tolerance.gradient)
        try expectClose(
            #require(weight.grad), #require(expected.gradients[1]), Tolerance.gradient)
    }

    /// Gemma's: the files hold what the factors differ from one by.
    @Test(arguments: shapes)
    func offsetIsAddedToTheWeight(shape: [Int]) throws {
        let source = RandomSource(seed: 4, standardDeviation: 0.5)
        let norm = try RMSNorm(
            hiddenSize: shape[1], epsilon: Self.epsilon, offset: 1, roundsFirst: false,
            Scope(registry: ModuleRegistry(), source: source) / "norm")
        let weight = norm.weight.value
        try weight.setRequiresGrad(true)
        let input = try Tensor.random(shape, seed: 1)
        let found = try Differentiated([input]) { try norm.recomputable($0[0]).value }
        let expected = try Differentiated([input, weight]) {
            try reference($0[0], $0[1] + 1)
        }
        try expectClose(found.output, expected.output)
        try expectClose(
            #require(found.gradients[0]), #require(expected.gradients[0]), Tolerance.gradient)
        try expectClose(
            #require(weight.grad), #require(expected.gradients[1]), Tolerance.gradient)
    }

    /// `(offset + w) n` from float32 n, rounded once; with `roundsFirst` n is rounded before.
    @Test(arguments: [(0, true), (0, false), (1, false)] as [(Double, Bool)])
    func bfloat16IsRoundedWhereTheFamilyRounds(offset: Double, roundsFirst: Bool) throws {
        let source = RandomSource(seed: 4, standardDeviation: 0.5, dtype: .bfloat16)
        let norm = try RMSNorm(
            hiddenSize: 64, epsilon: Self.epsilon, offset: offset, roundsFirst: roundsFirst,
            Scope(registry: ModuleRegistry(), source: source) / "norm")
        let input = try Tensor.random([9, 64], seed: 3).to(.bfloat16)
        let wide = try input.to(.float32)
        let inverse = try (wide.power(2).mean([-1], keepDims: true) + Self.epsilon).rsqrt()
        var normalized = try wide * inverse
        if roundsFirst { normalized = try normalized.to(.bfloat16).to(.float32) }
        let factors = try norm.weight.value.to(.float32) + offset
        let expected = try (normalized * factors).to(.bfloat16).floats()
        let numEqual = zip(try norm(input).floats(), expected).filter { $0 == $1 }.count
        // Sums of squares in another order round a number differently now and then.
        #expect(numEqual >= expected.count - 3)
    }

    @Test func frozenWeightGetsNoGradient() throws {
        let norm = try makeNorm(8)
        let found = try Differentiated([.random([3, 8], seed: 2)]) { try norm($0[0]) }
        #expect(found.gradients[0] != nil)
        #expect(norm.weight.value.grad == nil)
    }

    @Test func weightAloneIsDifferentiated() throws {
        let norm = try makeNorm(8)
        try norm.weight.value.setRequiresGrad(true)
        let input = try Tensor.random([3, 8], seed: 2)
        try norm(input).sum().backward()
        let normalized = try reference(input, Tensor.ones([8]))
        try expectClose(
            #require(norm.weight.value.grad), normalized.sum([0]), Tolerance.gradient)
        #expect(input.grad == nil)
    }

    @Test func rowOfZerosStaysZeroWithFiniteGradient() throws {
        let norm = try makeNorm(6)
        let found = try Differentiated([.zeros([2, 6])]) { try norm($0[0]) }
        #expect(try found.output.floats().allSatisfy { $0 == 0 })
        #expect(try #require(found.gradients[0]).allFinite())
    }

    @Test func bfloat16KeepsItsDTypeAndIsNearFloat32() throws {
        let input = try Tensor.random([9, 64], seed: 3)
        let narrow = try makeNorm(64, dtype: .bfloat16)
        let wide = try makeNorm(64)
        let found = try Differentiated([input.to(.bfloat16)]) { try narrow($0[0]) }
        let expected = try Differentiated([input]) { try wide($0[0]) }
        #expect(found.output.dtype == .bfloat16)
        #expect(found.gradients[0]?.dtype == .bfloat16)
        try found.expectClose(
            to: expected, output: Tolerance.bfloat16, gradient: Tolerance.bfloat16)
    }

    @Test func weightIsTakenInTheDTypeOfTheInput() throws {
        let norm = try makeNorm(8)
        try norm.weight.value.setRequiresGrad(true)
        let input = try Tensor.random([3, 8], seed: 2).to(.bfloat16)
        let found = try Differentiated([input]) { try norm($0[0]) }
        #expect(found.output.dtype == .bfloat16)
        #expect(found.gradients[0]?.dtype == .bfloat16)
        #expect(norm.weight.value.grad?.dtype == .float32)
    }

    @Test func inputOfAnotherWidthIsAnError() throws {
        let norm = try makeNorm(6)
        #expect(throws: TorchError.self) { _ = try norm(.zeros([2, 5])) }
    }
}
