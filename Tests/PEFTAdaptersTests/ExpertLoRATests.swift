import PEFTAdapters
import PEFTLayers
import Testing
import Torch

@Suite struct ExpertLoRATests {
    private static let numExperts = 3
    private static var context: ForwardContext { .segment(5) }

    private static func makeExperts(inFeatures: Int = 7, outFeatures: Int = 4) throws -> Linear {
        let scope = Scope(registry: ModuleRegistry(), source: RandomSource(seed: 2))
        return try (scope / "mlp" / "experts").experts(
            "down_proj", numExperts: numExperts, inFeatures: inFeatures, outFeatures: outFeatures,
            moduleNames: ["down_proj"])
    }

    private static func makeLoRA(
        _ initialization: LoRAInitialization = .random, rank: Int = 2
    ) throws -> ExpertLoRA {
        try ExpertLoRA(
            target: LoRATarget(path: "mlp.experts.down_proj", rank: rank, alpha: 3),
            numExperts: numExperts, inFeatures: 7, outFeatures: 4,
            prefix: "base_model.model.mlp.experts", initialization: initialization, seed: 3)
    }

    private func input() throws -> Tensor {
        try Tensor.normal([5, 7], generator: Generator(seed: 1))
    }

    @Test func shapesAndNamesAreThoseOfPEFT() throws {
        let lora = try Self.makeLoRA(rank: 2)
        #expect(
            lora.parameters.map(\.path) == [
                "base_model.model.mlp.experts.lora_A.weight",
                "base_model.model.mlp.experts.lora_B.weight",
            ])
        #expect(lora.parameters.map(\.value.shape) == [[6, 7], [4, 6]])
    }

    @Test(arguments: [LoRAInitialization.kaimingUniform, .gaussian])
    func isTheIdentityAtTheStart(_ initialization: LoRAInitialization) throws {
        let (plain, adapted) = (try Self.makeExperts(), try Self.makeExperts())
        let lora = try Self.makeLoRA(initialization)
        adapted.attach(lora)
        #expect(try lora.changesNothing())
        let input = try input()
        for (left, right) in zip(
            try plain.experts(context: Self.context), try adapted.experts(context: Self.context))
        {
            let (before, after) = (
                try left(input, context: Self.context),
                try right(input, context: Self.context).detach()
            )
            #expect(try after.isEqual(to: before))
        }
    }

    /// The matrices start as PEFT's: A within the bound of all experts' inputs.
    @Test func startIsThatOfPEFT() throws {
        let values = try Self.makeLoRA(.kaimingUniform).loraA.value.floats().map(\.magnitude)
        let bound = 1 / Float(7).squareRoot()
        #expect(values.allSatisfy { $0 <= bound })
        #expect((values.max() ?? 0) > 0.8 * bound)
    }

    @Test func mergedWeightEqualsForward() throws {
        let experts = try Self.makeExperts()
        let lora = try Self.makeLoRA()
        experts.attach(lora)
        let merged = try experts.weight.dequantized() + lora.delta()
        let input = try input()
        for (index, layer) in try experts.experts(context: Self.context).enumerated() {
            try expectClose(
                layer(input, context: Self.context).detach(),
                input.linear(merged.narrow(0, 4 * index, 4)), Tolerance.float32Products,
                "expert \(index)")
        }
        // All experts at once give their outputs side by side.
        try expectClose(
            experts(input, context: Self.context).detach(), input.linear(merged),
            Tolerance.float32Products, "all experts")
    }

    /// An expert without tokens gets a gradient of zeros; the others get theirs, as from the merged weight.
    @Test func onlyItsParametersTrainAndOnlyUsedExpertsOfThem() throws {
        let experts = try Self.makeExperts()
        let lora = try Self.makeLoRA()
        experts.attach(lora)
        let input = try input()
        let layers = try experts.experts(context: Self.context)
        let sum =
            try layers[0](input, context: Self.context).sum()
            + layers[2](input, context: Self.context).sum()
        try sum.backward()
        #expect(experts.trainableParameters.map(\.path) == lora.parameters.map(\.path))
        #expect((experts.weight as? DenseWeight)?.parameter.value.grad == nil)
        let gradientA = try #require(lora.loraA.value.grad)
        let gradientB = try #require(lora.loraB.value.grad).reshape([4, 2, 3])
        for expert in 0..<3 {
            let isUsed = expert != 1
            #expect(try (gradientA.narrow(0, 2 * expert, 2).norm().item() > 0) == isUsed)
            #expect(try (gradientB.select(2, expert).norm().item() > 0) == isUsed)
        }
        // dB_e = s (sum over tokens of A_e x), for each of the outputs alike.
        let small = try input.linear(lora.loraA.value.detach().narrow(0, 4, 2))
        let row = try small.sum([0]) * 1.5
        for output in 0..<4 {
            try expectClose(
                gradientB.select(0, output).select(1, 2).contiguous(), row,
                Tolerance.float32Products, "gradient of B")
        }
    }

    @Test func withoutAdaptersItIsTheBase() throws {
        let (plain, adapted) = (try Self.makeExperts(), try Self.makeExperts())
        adapted.attach(try Self.makeLoRA())
        let context = ForwardContext(
            layout: SequenceLayout(segmentLengths: [5]), usesAdapters: false)
        let input = try input()
        let found = try adapted.experts(context: context)[1](input, context: context)
        let expected = try plain.experts(context: context)[1](input, context: context)
        #expect(try found.isEqual(to: expected))
    }

    /// bfloat16 computes within its products' tolerance of float32, for the device's path as for the kernel's.
    @Test func bfloat16ComputesInBfloat16AndTrainsInFloat32() throws {
        let lora = try Self.makeLoRA()
        let expert = try #require(try lora.experts().first)
        let weight = try Self.makeExperts().weight
        var outputs: [[Float]] = []
        for dtype in [DType.float32, .bfloat16] {
            let input = try input().to(dtype)
            let base = try Tensor.zeros([5, 4], dtype: dtype.forSums)
            let output = try expert.apply(
                to: input, baseOutput: base, weight: weight.rows(0..<4), context: Self.context)
            #expect(output.dtype == dtype)
            outputs.append(try output.detach().floats())
        }
        let error = zip(outputs[0], outputs[1]).map { Double(($0 - $1).magnitude) }.max() ?? 1
        #expect(error < Tolerance.bfloat16Products)
    }
}
