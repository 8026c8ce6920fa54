import PEFTLayers
import TestSupport
import Testing
import Torch

@Suite struct LayerNormTests {
    private static let epsilon = 1e-3

    private func makeNorm(_ hiddenSize: Int, dtype: DType = .float32) throws -> LayerNorm {
        let source = RandomSource(seed: 4, standardDeviation: 0.5, dtype: dtype)
        let scope = Scope(registry: ModuleRegistry(), source: source)
        return try LayerNorm(hiddenSize: hiddenSize, epsilon: Self.epsilon, scope / "norm")
    }

    /// The equation in plain operations.
    private func reference(_ inputs: [Tensor]) throws -> Tensor {
        let centred = try inputs[0] - inputs[0].mean([-1], keepDims: true)
        let variance = try centred.power(2).mean([-1], keepDims: true)
        return try centred * (variance + Self.epsilon).rsqrt() * inputs[1] + inputs[2]
    }

    @Test(arguments: [[1, 2], [3, 5], [17, 257]])
    func outputAndGradientsAreThoseOfTheEquation(shape: [Int]) throws {
        let norm = try makeNorm(shape[1])
        let parameters = [norm.weight.value, norm.bias.value]
        for parameter in parameters { try parameter.setRequiresGrad(true) }
        let input = try Tensor.random(shape, seed: 1)
        let found = try Differentiated([input]) { try norm($0[0]) }
        let expected = try Differentiated([input] + parameters, reference)
        try expectClose(found.output, expected.output)
        let gradients = [found.gradients[0]] + parameters.map(\.grad)
        for (gradient, reference) in zip(gradients, expected.gradients) {
            try expectClose(#require(gradient), #require(reference), Tolerance.gradient)
        }
    }

    @Test func outputIsMadeAgainInTheSameBits() throws {
        let norm = try makeNorm(33, dtype: .bfloat16)
        let input = try Tensor.random([7, 33], seed: 2).to(.bfloat16)
        try input.setRequiresGrad(true)
        let output = try norm.recomputable(input)
        #expect(output.value.requiresGrad)
        #expect(output.value.dtype == .bfloat16)
        let direct = try norm(input)
        #expect(try output.value.isEqual(to: direct))
    }

    @Test func inputOfAnotherWidthIsAnError() throws {
        let norm = try makeNorm(6)
        #expect(throws: TorchError.self) { _ = try norm(.zeros([2, 5])) }
    }
}
