import PEFTLayers
import TestSupport
import Testing
import Torch

@Suite struct SwiGLUTests {
    private func inputs(_ shape: [Int]) throws -> [Tensor] {
        try [.random(shape, seed: 1), .random(shape, seed: 2)]
    }

    @Test(arguments: [[1, 1], [3, 7], [5, 130]])
    func outputAndGradientsAreThoseOfTheEquation(shape: [Int]) throws {
        let inputs = try inputs(shape)
        let found = try Differentiated(inputs) { try SwiGLU.apply(gate: $0[0], up: $0[1]) }
        let expected = try Differentiated(inputs) { try $0[0] * $0[0].sigmoid() * $0[1] }
        try found.expectClose(to: expected)
    }

    @Test(arguments: [[true, false], [false, true]])
    func frozenInputGetsNoGradient(isTrainable: [Bool]) throws {
        let inputs = try inputs([2, 3])
        let found = try Differentiated(inputs, isTrainable: isTrainable) {
            try SwiGLU.apply(gate: $0[0], up: $0[1])
        }
        #expect(found.gradients.map { $0 != nil } == isTrainable)
    }

    @Test func bfloat16KeepsItsDTypeAndIsNearFloat32() throws {
        let inputs = try inputs([9, 33])
        let found = try Differentiated(inputs.map { try $0.to(.bfloat16) }) {
            try SwiGLU.apply(gate: $0[0], up: $0[1])
        }
        #expect(found.output.dtype == .bfloat16)
        try found.expectClose(
            to: Differentiated(inputs) { try SwiGLU.apply(gate: $0[0], up: $0[1]) },
            output: Tolerance.bfloat16, gradient: Tolerance.bfloat16)
    }

    @Test func shapesThatDifferAreAnError() throws {
        #expect(throws: TorchError.self) {
            _ = try SwiGLU.apply(gate: .zeros([2, 3]), up: .zeros([2, 4]))
        }
    }
}
