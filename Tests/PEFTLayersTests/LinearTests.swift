import PEFTLayers
import TestSupport
import Testing
import Torch

extension ForwardContext {
    /// One segment, in evaluation.
    static func segment(_ numTokens: Int) -> ForwardContext {
        ForwardContext(layout: SequenceLayout(segmentLengths: [numTokens]))
    }
}

/// `y + factor * sum(x)`: adds one trainable number times each row's sum.
final class RowSumAdapter: LinearAdapter {
    let factor: Parameter
    let frozen: Parameter
    /// The storage of the layer in the last call.
    private(set) var seenStorage: String?

    init(path: String, factor value: Float = 0.5) throws {
        factor = try Parameter(
            path: path + ".factor", value: Tensor([value], shape: [1]), isTrainable: true)
        frozen = try Parameter(path: path + ".frozen", value: .ones([1]), isTrainable: false)
    }

    var parameters: [Parameter] { [factor, frozen] }

    func apply(
        to input: Tensor, baseOutput: Tensor, weight: any LinearWeight, context: ForwardContext
    ) throws(TorchError) -> Tensor {
        seenStorage = weight.storageDescription
        let sums = try input.sum([-1], keepDims: true) * factor.value
        return try baseOutput + sums
    }

    func changesNothing() throws(TorchError) -> Bool { try factor.value.detach().item() == 0 }
}

@Suite struct LinearTests {
    private func makeLinear(bias: Bool) throws -> Linear {
        let scope = Scope(
            registry: ModuleRegistry(), source: RandomSource(seed: 2, standardDeviation: 1))
        return try scope.linear("proj", inFeatures: 5, outFeatures: 3, bias: bias)
    }

    private func weight(of linear: Linear) throws -> Tensor {
        try #require(linear.weight as? DenseWeight).parameter.value
    }

    @Test(arguments: [false, true])
    func outputIsProductPlusBias(hasBias: Bool) throws {
        let linear = try makeLinear(bias: hasBias)
        let input = try Tensor.random([4, 5], seed: 1)
        var expected = try input.matmul(weight(of: linear).transposed())
        if hasBias {
            let bias = try #require(linear.bias)
            #expect(bias.path == "proj.bias")
            expected = try expected + bias.value
        }
        try expectClose(linear(input, context: .segment(4)), expected)
        #expect((linear.bias != nil) == hasBias)
        #expect(linear.path == "proj")
    }

    @Test func adapterSeesInputBaseOutputAndStorage() throws {
        let linear = try makeLinear(bias: true)
        let input = try Tensor.random([4, 5], seed: 1)
        let base = try linear(input, context: .segment(4))
        let adapter = try RowSumAdapter(path: "proj")
        linear.attach(adapter)
        let output = try linear(input, context: .segment(4))
        try expectClose(output.detach(), base + input.sum([-1], keepDims: true) * 0.5)
        #expect(adapter.seenStorage == "float32")
    }

    @Test func weightIsAFrozenProductsOnlyWithoutBiasAdapterAndGradient() throws {
        let context = ForwardContext.segment(1)
        let plain = try makeLinear(bias: false)
        let elements = try #require(plain.frozenProductWeight(in: context))
        #expect(try elements.isSame(as: weight(of: plain)))
        #expect(try makeLinear(bias: true).frozenProductWeight(in: context) == nil)

        plain.attach(try RowSumAdapter(path: "proj"))
        #expect(plain.frozenProductWeight(in: context) == nil)
        let unadapted = ForwardContext(layout: context.layout, usesAdapters: false)
        #expect(plain.frozenProductWeight(in: unadapted) != nil)
        #expect(try plain.prepared(for: .float32).frozenProductWeight(in: context) == nil)

        let trained = try Parameter(path: "w", value: .ones([3, 5]), isTrainable: true)
        let layer = Linear(path: "w", weight: DenseWeight(trained))
        #expect(layer.frozenProductWeight(in: context) == nil)
    }

    @Test func adapterAloneTrainsAndTheInputIsDifferentiatedThroughBoth() throws {
        let linear = try makeLinear(bias: true)
        #expect(linear.trainableParameters.isEmpty)
        linear.attach(try RowSumAdapter(path: "proj"))
        #expect(linear.trainableParameters.map(\.path) == ["proj.factor"])

        let input = try Tensor.random([4, 5], seed: 1)
        let found = try Differentiated([input]) { try linear($0[0], context: .segment(4)) }
        let gradient = try Tensor.random([4, 3], seed: 1234)
        let expected = try gradient.matmul(weight(of: linear))
            .adding(gradient.sum([1], keepDims: true), scaledBy: 0.5)
        try expectClose(#require(found.gradients[0]), expected, Tolerance.gradient)
        let factor = try #require(linear.trainableParameters.first).value
        let slope = try (input.sum([1]) * gradient.sum([1])).sum()
        try expectClose(#require(factor.grad).sum(), slope, Tolerance.gradient)
        #expect(try weight(of: linear).grad == nil)
    }

    @Test(arguments: [DType.float32, .bfloat16])
    func preparedLayerGivesTheSameWithBiasAndAdapter(dtype: DType) throws {
        let scope = Scope(
            registry: ModuleRegistry(),
            source: RandomSource(seed: 2, standardDeviation: 1, dtype: dtype))
        let linear = try scope.linear("proj", inFeatures: 5, outFeatures: 3, bias: true)
        linear.attach(try RowSumAdapter(path: "proj"))
        let prepared = try linear.prepared(for: dtype)
        #expect(prepared.path == "proj")
        #expect(prepared.adapter === linear.adapter)
        #expect(prepared.bias === linear.bias)
        let input = try Tensor.random([4, 5], seed: 1).to(dtype)
        let output = try prepared(input, context: .segment(4))
        try expectClose(
            output.detach(), linear(input, context: .segment(4)).detach(),
            dtype == .float32 ? Tolerance.float32 : Tolerance.bfloat16)
    }

    @Test func inputOfAnotherWidthNamesTheOperands() throws {
        let linear = try makeLinear(bias: false)
        let error = #expect(throws: TorchError.self) {
            _ = try linear(.zeros([2, 4]), context: .segment(2))
        }
        #expect(error?.operands == ["float32[2, 4]", "float32[3, 5]", "none"])
    }

    @Test func secondAdapterTraps() async {
        await #expect(processExitsWith: .failure) {
            let value = try Parameter(path: "w", value: .ones([2, 2]), isTrainable: false)
            let linear = Linear(path: "proj", weight: DenseWeight(value))
            linear.attach(try RowSumAdapter(path: "proj"))
            linear.attach(try RowSumAdapter(path: "proj"))
        }
    }
}

@Suite struct DenseWeightTests {
    @Test(arguments: [DType.float32, .bfloat16])
    func describesItselfAndDequantizesToFloat32(dtype: DType) throws {
        let value = try Tensor.random([3, 5], seed: 1).to(dtype)
        let weight = DenseWeight(try Parameter(path: "w", value: value, isTrainable: false))
        #expect(weight.outFeatures == 3)
        #expect(weight.inFeatures == 5)
        #expect(weight.sizeBytes == 15 * dtype.sizeBytes)
        #expect(weight.storageDescription == dtype.name)
        #expect(try weight.dequantized().dtype == .float32)
        #expect(try weight.dequantized().floats() == value.floats())
    }

    @Test(arguments: [DType.float32, .bfloat16])
    func preparedWeightIsInTheDTypeOfProducts(dtype: DType) throws {
        let value = try Tensor.random([3, 5], seed: 1).to(dtype)
        let weight = DenseWeight(try Parameter(path: "w", value: value, isTrainable: false))
        let prepared = try #require(try weight.prepared(for: dtype) as? DenseWeight)
        #expect(prepared.parameter.value.dtype == dtype.forProducts)
        #expect((prepared === weight) == (dtype.forProducts == dtype))
        #expect(try prepared.dequantized().floats() == value.floats())
        // Both take inputs of either dtype.
        for dtype in [dtype, dtype.forProducts] {
            let input = try Tensor.random([4, 5], seed: 2).to(dtype)
            #expect(try weight.apply(to: input).dtype == dtype)
            #expect(try weight.apply(to: input).isEqual(to: prepared.apply(to: input)))
        }
    }

    @Test func trainableWeightStaysSoThatItsGradientReachesIt() throws {
        let value = try Tensor.ones([3, 5], dtype: .bfloat16)
        let weight = DenseWeight(try Parameter(path: "w", value: value, isTrainable: true))
        #expect(try weight.prepared(for: .bfloat16) === weight)
    }
}

@Suite struct ParameterTests {
    @Test func trainableValueRequiresGradAndAFrozenOneDoesNot() throws {
        #expect(try Parameter(path: "a", value: .ones([1]), isTrainable: true).value.requiresGrad)
        #expect(try !Parameter(path: "a", value: .ones([1]), isTrainable: false).value.requiresGrad)
    }

    @Test func trainableIntegersAreAnError() {
        #expect(throws: TorchError.self) {
            _ = try Parameter(path: "a", value: .ones([1], dtype: .int64), isTrainable: true)
        }
    }
}
