import Foundation
import PEFTLayers
import TestSupport
import Testing
import Torch

@Suite struct ActivationTests {
    /// The definitions in float64.
    private func reference(_ activation: Activation, _ x: Double) -> Double {
        switch activation {
        case .silu, .swish: x / (1 + exp(-x))
        case .gelu: x * (1 + erf(x / 2.0.squareRoot())) / 2
        case .geluPyTorchTanh, .geluNew, .geluFast:
            x * (1 + tanh((2 / Double.pi).squareRoot() * (x + 0.044715 * x * x * x))) / 2
        }
    }

    @Test(arguments: Activation.allCases)
    func valuesAreThoseOfTheDefinition(activation: Activation) throws {
        let values = (-40...40).map { Float($0) / 8 }
        let input = try Tensor(values, shape: [9, 9])
        let expected = values.map { Float(reference(activation, Double($0))) }
        try expectClose(activation(input), Tensor(expected, shape: [9, 9]))
    }

    @Test(arguments: Activation.allCases)
    func gateMultipliesAndBothAreDifferentiated(activation: Activation) throws {
        let inputs = try [Tensor.random([5, 13], seed: 1), .random([5, 13], seed: 2)]
        let found = try Differentiated(inputs) {
            try activation.gated(gate: $0[0], up: $0[1]).value
        }
        try found.expectClose(to: Differentiated(inputs) { try activation($0[0]) * $0[1] })
    }

    @Test(arguments: ["silu", "gelu", "gelu_pytorch_tanh", "gelu_new"])
    func namesAreThoseOfConfigurations(name: String) {
        #expect(Activation(rawValue: name) != nil)
    }
}
