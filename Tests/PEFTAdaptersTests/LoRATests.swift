import PEFTAdapters
import PEFTLayers
import Testing
import Torch

@Suite struct LoRATests {
    private static func makeLoRA(
        inFeatures: Int, outFeatures: Int, rank: Int = 4, scaling: Double = 2, dropout: Double = 0,
        initialization: LoRAInitialization = .kaimingUniform, seed: UInt64 = 3
    ) throws -> LoRA {
        try LoRA(
            target: LoRATarget(path: "layer", rank: rank, alpha: scaling * Double(rank)),
            inFeatures: inFeatures, outFeatures: outFeatures, dropout: dropout,
            initialization: initialization, seed: seed)
    }

    // MARK: The five tests of a method (the fifth, save and load, is that of adapter folders)

    @Test(arguments: [DType.float32, .bfloat16])
    func isTheIdentityAtTheStart(dtype: DType) throws {
        let linear = try TinyModel.linear(inFeatures: 7, outFeatures: 5)
        let generator = try Generator(seed: 5)
        let input = try Tensor.normal([6, 7], generator: generator)
        let before = try linear(input, context: .segment(6)).to(dtype)
        let lora = try Self.makeLoRA(inFeatures: 7, outFeatures: 5)
        let after = try lora.apply(
            to: input.to(dtype), baseOutput: before, weight: linear.weight, context: .segment(6))
        #expect(try after.isEqual(to: before))
        #expect(after.dtype == dtype)
    }

    @Test(arguments: Fixtures.layerCases)
    func outputAndGradientsAreThoseOfPEFT(_ fixture: Fixtures.LayerCase) throws {
        func array(_ name: String, _ shape: [Int]) throws -> Tensor {
            try Tensor(try #require(fixture.arrays[name], "\(name)"), shape: shape)
        }
        let (tokens, inputs, outputs) = (
            fixture.numTokens, fixture.inFeatures, fixture.outFeatures
        )
        let resolved = try fixture.config.resolve(in: ModulePaths(linears: ["0"]))
        let target = try #require(resolved.targets.first)
        let lora = try LoRA(
            target: target, inFeatures: inputs, outFeatures: outputs, seed: 0)
        try withoutGrad {
            try lora.loraA.value.copyInPlace(from: array("loraA", [target.rank, inputs]))
            try lora.loraB.value.copyInPlace(from: array("loraB", [outputs, target.rank]))
        }
        let weight = try Parameter(
            path: "0.weight", value: array("weight", [outputs, inputs]), isTrainable: false)
        let linear = Linear(path: "0", weight: DenseWeight(weight))
        linear.attach(lora)
        let input = try array("input", [tokens, inputs])
        try input.setRequiresGrad(true)
        let output = try linear(input, context: .segment(tokens))
        try output.backward(gradient: array("outputGradient", [tokens, outputs]))

        let tolerance = Tolerance.float32Products
        try expectClose(output.detach(), array("output", [tokens, outputs]), tolerance, "output")
        try expectClose(
            input.grad, array("inputGradient", [tokens, inputs]), tolerance, "input gradient")
        try expectClose(
            lora.loraA.value.grad, array("loraAGradient", [target.rank, inputs]), tolerance,
            "gradient of A")
        try expectClose(
            lora.loraB.value.grad, array("loraBGradient", [outputs, target.rank]), tolerance,
            "gradient of B")
        try expectClose(lora.delta(), array("delta", [outputs, inputs]), tolerance, "delta")
    }

    /// A young adapter adds less than the last bit of the base's output: base, bias and update are rounded together, once.
    ///
    /// Odd sides, so that no kernel takes the layer.
    @Test(arguments: [false, true])
    func aYoungUpdateIsNotRoundedAway(hasBias: Bool) throws {
        let (tokens, inputs, outputs, rank) = (40, 33, 21, 3)
        let generator = try Generator(seed: 9)
        func numbers(_ shape: [Int], scale: Double) throws -> Tensor {
            try Tensor.normal(shape, standardDeviation: scale, generator: generator)
                .to(.bfloat16)
        }
        let weight = try numbers([outputs, inputs], scale: 0.3)
        let bias = try numbers([outputs], scale: 1)
        let linear = Linear(
            path: "layer",
            weight: DenseWeight(
                try Parameter(path: "layer.weight", value: weight, isTrainable: false)),
            bias: hasBias
                ? try Parameter(path: "layer.bias", value: bias, isTrainable: false) : nil)
        let lora = try Self.makeLoRA(
            inFeatures: inputs, outFeatures: outputs, rank: rank, scaling: 1)
        let loraB = try numbers([outputs, rank], scale: 2e-3)
        try withoutGrad { try lora.loraB.value.copyInPlace(from: loraB.to(.float32)) }
        linear.attach(lora)

        let input = try numbers([tokens, inputs], scale: 1)
        let output = try linear(input, context: .segment(tokens)).detach().to(.float64)
        let wide = try input.to(.float64)
        var base = try wide.matmul(weight.to(.float64).transposed())
        if hasBias { base = try base + bias.to(.float64) }
        let update = try wide.matmul(lora.loraA.value.detach().to(.float64).transposed())
            .matmul(loraB.to(.float64).transposed())
        // The mean of what the adapter changed along its own direction: 1 if nothing is lost.
        let share = try ((output - base) * update).sum().item() / (update * update).sum().item()
        #expect(abs(share - 1) < 0.1, "the update's share that arrives is \(share)")
    }

    @Test func onlyItsParametersTrain() throws {
        let linear = try TinyModel.linear(inFeatures: 3, outFeatures: 4)
        let lora = try Self.makeLoRA(inFeatures: 3, outFeatures: 4, initialization: .random)
        linear.attach(lora)
        let input = try Tensor.normal([5, 3], generator: Generator(seed: 1))
        try linear(input, context: .segment(5)).sum().backward()
        let weight = try #require(linear.weight as? DenseWeight).parameter.value
        #expect(weight.grad == nil)
        #expect(input.grad == nil)
        #expect(linear.trainableParameters.map(\.path) == lora.parameters.map(\.path))
        for parameter in lora.parameters {
            let gradient = try #require(parameter.value.grad)
            #expect(gradient.dtype == .float32)
            #expect(try gradient.norm().item() > 0)
        }
    }

    @Test func mergedWeightEqualsForward() throws {
        let linear = try TinyModel.linear(inFeatures: 9, outFeatures: 6)
        let lora = try Self.makeLoRA(
            inFeatures: 9, outFeatures: 6, rank: 3, scaling: 1.5, initialization: .random)
        linear.attach(lora)
        let input = try Tensor.normal([8, 9], generator: Generator(seed: 2))
        let merged = try linear.weight.dequantized() + lora.delta()
        let expected = try input.linear(merged)
        let actual = try linear(input, context: .segment(8)).detach()
        try expectClose(actual, expected, Tolerance.float32Products, "output")
    }

    // MARK: Precision

    @Test func bfloat16ComputesInBfloat16AndTrainsInFloat32() throws {
        let lora = try Self.makeLoRA(inFeatures: 32, outFeatures: 24, initialization: .random)
        let linear = try TinyModel.linear(inFeatures: 32, outFeatures: 24)
        let gradient = try Tensor.normal([16, 24], generator: Generator(seed: 9))
        var results: [[Tensor]] = []
        for dtype in [DType.float32, .bfloat16] {
            let input = try Tensor.normal([16, 32], generator: Generator(seed: 8)).to(dtype)
            try input.setRequiresGrad(true)
            let base = try Tensor.zeros([16, 24], dtype: dtype)
            let output = try lora.apply(
                to: input, baseOutput: base, weight: linear.weight, context: .segment(16))
            #expect(output.dtype == dtype)
            try output.backward(gradient: gradient.to(dtype))
            let gradients = [input.grad] + lora.parameters.map(\.value.grad)
            results.append(try [output.detach()] + gradients.map { try #require($0) })
            for parameter in lora.parameters {
                #expect(parameter.value.grad?.dtype == .float32)
                try parameter.value.setGrad(nil)
            }
        }
        for (index, what) in ["output", "input gradient", "A", "B"].enumerated() {
            try expectClose(
                results[1][index], results[0][index], Tolerance.bfloat16Products, what)
        }
    }

    // MARK: Start

    @Test func kaimingStartIsUniformInItsBound() throws {
        let lora = try Self.makeLoRA(inFeatures: 64, outFeatures: 48, rank: 32)
        let values = try lora.loraA.value.floats()
        let bound = Float(1) / 8
        #expect(values.allSatisfy { $0.magnitude <= bound })
        #expect(try #require(values.max()) > 0.99 * bound)
        #expect(try #require(values.min()) < -0.99 * bound)
        // Five standard errors of the mean of 2,048 uniform numbers.
        let mean = values.reduce(0, +) / Float(values.count)
        #expect(mean.magnitude < 5 * bound / (3 * Float(values.count)).squareRoot())
        #expect(try lora.loraB.value.floats().allSatisfy { $0 == 0 })
    }

    @Test func gaussianStartHasTheStandardDeviationOfTheRank() throws {
        let lora = try Self.makeLoRA(
            inFeatures: 512, outFeatures: 4, rank: 8, initialization: .gaussian)
        let values = try lora.loraA.value.floats()
        let variance = values.reduce(0) { $0 + $1 * $1 } / Float(values.count)
        // Five standard errors of the variance of 4,096 normal numbers.
        let expected = Float(1) / 64
        #expect((variance - expected).magnitude < 5 * expected * (Float(2) / 4096).squareRoot())
        #expect(try lora.loraB.value.floats().allSatisfy { $0 == 0 })
    }

    @Test func randomStartFillsBoth() throws {
        let lora = try Self.makeLoRA(
            inFeatures: 16, outFeatures: 64, rank: 16, initialization: .random)
        let values = try lora.loraB.value.floats()
        #expect(values.allSatisfy { $0.magnitude <= 0.25 })
        #expect(try #require(values.max()) > 0.24)
        #expect(try lora.delta().norm().item() > 0)
    }

    // MARK: Dropout

    private static func output(
        _ lora: LoRA, _ input: Tensor, _ key: DropoutKey?
    ) throws -> Tensor {
        let linear = try TinyModel.linear(inFeatures: input.shape[1], outFeatures: 6)
        let numTokens = input.shape[0]
        return try lora.apply(
            to: input, baseOutput: Tensor.zeros([numTokens, 6]), weight: linear.weight,
            context: .segment(numTokens, dropout: key))
    }

    @Test func changesNothingWhileBIsZero() throws {
        let lora = try Self.makeLoRA(inFeatures: 3, outFeatures: 4)
        #expect(try lora.changesNothing())
        // The smallest number there is: its square is zero.
        try withoutGrad {
            let row = try lora.loraB.value.narrow(0, 3, 1)
            try row.fillInPlace(Double(Float.leastNonzeroMagnitude))
        }
        #expect(try !lora.changesNothing())
        #expect(
            try !Self.makeLoRA(inFeatures: 3, outFeatures: 4, initialization: .random)
                .changesNothing())
    }

    @Test func frozenMatricesNeedNoGradient() throws {
        let lora = try LoRA(
            target: LoRATarget(path: "layer", rank: 2, alpha: 4), inFeatures: 3, outFeatures: 4,
            seed: 3, isTrainable: false)
        #expect(lora.parameters.allSatisfy { !$0.isTrainable && !$0.value.requiresGrad })
    }

    @Test func evaluationHasNoDropout() throws {
        let input = try Tensor.normal([5, 8], generator: Generator(seed: 1))
        let plain = try Self.makeLoRA(inFeatures: 8, outFeatures: 6, initialization: .random)
        let dropping = try Self.makeLoRA(
            inFeatures: 8, outFeatures: 6, dropout: 0.5, initialization: .random)
        let expected = try Self.output(plain, input, nil)
        #expect(try Self.output(dropping, input, nil).isEqual(to: expected))
        let key = DropoutKey(seed: 1, step: 2, microBatch: 3)
        #expect(try Self.output(plain, input, key).isEqual(to: expected))
        #expect(try !Self.output(dropping, input, key).isEqual(to: expected))
    }

    @Test func maskDependsOnTheKeyAlone() throws {
        let input = try Tensor.normal([5, 8], generator: Generator(seed: 1))
        let lora = try Self.makeLoRA(
            inFeatures: 8, outFeatures: 6, dropout: 0.5, initialization: .random)
        let key = DropoutKey(seed: 1, step: 2, microBatch: 3)
        let first = try Self.output(lora, input, key)
        let other = try Self.output(lora, input, DropoutKey(seed: 1, step: 2, microBatch: 4))
        #expect(try Self.output(lora, input, key).isEqual(to: first))
        #expect(try !other.isEqual(to: first))
    }

    @Test func gradientsWithDropoutAreThoseOfTheMaskedProduct() throws {
        let lora = try Self.makeLoRA(
            inFeatures: 8, outFeatures: 6, dropout: 0.4, initialization: .random)
        let key = DropoutKey(seed: 4, step: 0, microBatch: 0)
        let values = try Tensor.normal([7, 8], generator: Generator(seed: 1))
        let gradient = try Tensor.normal([7, 6], generator: Generator(seed: 2))
        let mask = try DropoutMask(probability: 0.4, shape: [7, 8], key: key, path: "layer")

        let input = try values.clone()
        try input.setRequiresGrad(true)
        let output = try Self.output(lora, input, key)
        try output.backward(gradient: gradient)
        let actual = [output, input.grad] + lora.parameters.map(\.value.grad)

        for parameter in lora.parameters { try parameter.value.setGrad(nil) }
        let reference = try values.clone()
        try reference.setRequiresGrad(true)
        let dropped = try (reference * mask.kept) * mask.scale
        let product = try dropped.linear(lora.loraA.value).linear(lora.loraB.value)
        let expected = try product * lora.target.scaling
        try expected.backward(gradient: gradient)
        let references = [expected, reference.grad] + lora.parameters.map(\.value.grad)

        for (index, what) in ["output", "input gradient", "A", "B"].enumerated() {
            let wanted = try #require(references[index]).detach()
            try expectClose(
                actual[index]?.detach(), wanted, Tolerance.float32Products, what)
        }
    }

    @Test func recomputationRepeatsTheMask() throws {
        let lora = try Self.makeLoRA(
            inFeatures: 8, outFeatures: 6, dropout: 0.3, initialization: .random)
        let key = DropoutKey(seed: 4, step: 1, microBatch: 0)
        let input = try Tensor.normal([7, 8], generator: Generator(seed: 1))
        try Self.output(lora, input, key).sum().backward()
        let expected = lora.parameters.map(\.value.grad)
        for parameter in lora.parameters { try parameter.value.setGrad(nil) }
        let values = lora.parameters.map(\.value)
        let output = try Autograd.recomputed(input: input, parameters: values) {
            input throws(TorchError) in
            let context = ForwardContext.segment(7, dropout: key)
            let base = try Tensor.zeros([7, 6])
            let weight = DenseWeight(
                try Parameter(path: "w", value: Tensor.zeros([6, 8]), isTrainable: false))
            return try lora.apply(
                to: input, baseOutput: base, weight: weight, context: context)
        }
        try output.sum().backward()
        for (parameter, wanted) in zip(lora.parameters, expected) {
            let gradient = try #require(parameter.value.grad)
            #expect(try gradient.isEqual(to: #require(wanted)))
        }
    }
}
