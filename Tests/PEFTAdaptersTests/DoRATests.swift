import PEFTAdapters
import PEFTLayers
import Testing
import Torch

/// DoRA on one layer; what PEFT computes in whole models is `LoRAModelTests`'.
@Suite struct DoRATests {
    private static let (tokens, inputs, outputs) = (5, 9, 7)

    /// A layer with bias and a DoRA whose matrices are random.
    private static func makeLayer(
        dropout: Double = 0, initialization: LoRAInitialization = .random, hasBias: Bool = true
    ) throws -> (linear: Linear, dora: DoRA) {
        let scope = Scope(
            registry: ModuleRegistry(), source: RandomSource(seed: 2, standardDeviation: 0.3))
        let linear = try scope.linear(
            "layer", inFeatures: inputs, outFeatures: outputs, bias: hasBias)
        let lora = try LoRA(
            target: LoRATarget(path: "layer", rank: 3, alpha: 4), inFeatures: inputs,
            outFeatures: outputs, dropout: dropout, initialization: initialization, seed: 3)
        let dora = try DoRA(lora, on: linear.weight, bias: linear.bias)
        linear.attach(dora)
        return (linear, dora)
    }

    /// Moves the magnitude off its start.
    private static func changeMagnitude(_ dora: DoRA) throws {
        let noise = try Tensor.normal(
            [outputs], standardDeviation: 0.2, generator: Generator(seed: 5))
        try withoutGrad { try dora.magnitude.value.addInPlace(noise) }
    }

    private static func input(_ dtype: DType = .float32) throws -> Tensor {
        try Tensor.normal([tokens, inputs], generator: Generator(seed: 4)).to(dtype)
    }

    @Test(arguments: [DType.float32, .bfloat16], [false, true])
    func isTheIdentityAtTheStart(dtype: DType, hasBias: Bool) throws {
        let (linear, dora) = try Self.makeLayer(
            initialization: .kaimingUniform, hasBias: hasBias)
        let context = ForwardContext.segment(Self.tokens)
        let plain = ForwardContext(layout: context.layout, usesAdapters: false)
        let input = try Self.input(dtype)
        #expect(try linear(input, context: context).isEqual(to: linear(input, context: plain)))
        #expect(try dora.changesNothing())
        try Self.changeMagnitude(dora)
        #expect(try !dora.changesNothing())
        #expect(try !Self.makeLayer().dora.changesNothing())
    }

    @Test func theMagnitudeStartsAsTheNormOfTheAdaptedRows() throws {
        let (linear, dora) = try Self.makeLayer()
        let adapted = try linear.weight.dequantized() + dora.lora.delta()
        let norms = try (adapted * adapted).sum([1]).sqrt()
        try expectClose(
            dora.magnitude.value.detach(), norms, Tolerance.float32Products, "magnitude")
        #expect(dora.magnitude.path == "base_model.model.layer.lora_magnitude_vector")
    }

    @Test func onlyItsParametersTrain() throws {
        let (linear, dora) = try Self.makeLayer()
        try linear(Self.input(), context: .segment(Self.tokens)).sum().backward()
        let weight = try #require(linear.weight as? DenseWeight).parameter.value
        #expect(weight.grad == nil)
        #expect(linear.bias?.value.grad == nil)
        #expect(linear.trainableParameters.map(\.path) == dora.parameters.map(\.path))
        for parameter in dora.parameters {
            #expect(try #require(parameter.value.grad).norm().item() > 0)
        }
    }

    @Test func mergedWeightEqualsForward() throws {
        let (linear, dora) = try Self.makeLayer()
        try Self.changeMagnitude(dora)
        let bias = try #require(linear.bias).value
        let expected = try Self.input().linear(dora.merged(into: linear.weight)) + bias
        let actual = try linear(Self.input(), context: .segment(Self.tokens)).detach()
        try expectClose(actual, expected, Tolerance.float32Products, "output")
    }

    /// With dropout as PEFT's `DoraLinearVariant.forward` has it, out of recorded operations.
    @Test(arguments: [0, 0.4], [false, true])
    func outputAndGradientsAreThoseOfTheFormula(dropout: Double, hasBias: Bool) throws {
        let (linear, dora) = try Self.makeLayer(dropout: dropout, hasBias: hasBias)
        try Self.changeMagnitude(dora)
        let key = DropoutKey(seed: 4, step: 0, microBatch: 0)
        let gradient = try Tensor.normal(
            [Self.tokens, Self.outputs], generator: Generator(seed: 2))
        let leaves = dora.parameters.map(\.value)

        let input = try Self.input()
        try input.setRequiresGrad(true)
        let output = try linear(input, context: .segment(Self.tokens, dropout: key))
        try output.backward(gradient: gradient)
        let actual = try [output.detach(), input.grad] + leaves.map(\.grad)

        for leaf in leaves { try leaf.setGrad(nil) }
        let reference = try Self.input()
        try reference.setRequiresGrad(true)
        var dropped = reference
        if dropout > 0 {
            let mask = try DropoutMask(
                probability: dropout, shape: [Self.tokens, Self.inputs], key: key, path: "layer")
            dropped = try (reference * mask.kept) * mask.scale
        }
        let weight = try linear.weight.dequantized()
        let adapted = try weight + dora.lora.delta()
        let norms = try (adapted * adapted).sum([1]).sqrt()
        let gain = try leaves[2] / norms
        let update = try dropped.linear(leaves[0]).linear(leaves[1]) * dora.lora.target.scaling
        var expected = try reference.linear(weight) + dropped.linear(weight) * (gain + -1)
        expected = try expected + update * gain
        if let bias = linear.bias { expected = try expected + bias.value }
        try expected.backward(gradient: gradient)
        let wanted = try [expected.detach(), reference.grad] + leaves.map(\.grad)
        for (index, what) in ["output", "input", "A", "B", "magnitude"].enumerated() {
            try expectClose(
                actual[index], #require(wanted[index]), Tolerance.float32Products, what)
        }
    }

    @Test func bfloat16ComputesInBfloat16AndTrainsInFloat32() throws {
        var results: [[Tensor]] = []
        for dtype in [DType.float32, .bfloat16] {
            let (linear, dora) = try Self.makeLayer()
            try Self.changeMagnitude(dora)
            let input = try Self.input(dtype)
            try input.setRequiresGrad(true)
            let output = try linear(input, context: .segment(Self.tokens))
            #expect(output.dtype == dtype)
            try output.sum().backward()
            let gradients = [input.grad] + dora.parameters.map(\.value.grad)
            results.append(try [output.detach()] + gradients.map { try #require($0) })
            #expect(dora.parameters.allSatisfy { $0.value.grad?.dtype == .float32 })
        }
        for (index, what) in ["output", "input", "A", "B", "magnitude"].enumerated() {
            try expectClose(results[1][index], results[0][index], Tolerance.bfloat16Products, what)
        }
    }
}
