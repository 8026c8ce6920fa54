import PEFTLayers
import TestSupport
import Testing
import Torch

@Suite struct ScopeTests {
    private let registry = ModuleRegistry()

    private func root(_ dtype: DType = .float32) -> Scope {
        Scope(registry: registry, source: RandomSource(seed: 1, dtype: dtype))
    }

    @Test func pathsJoinWithDots() {
        #expect(root().path.isEmpty)
        #expect((root() / "model").path == "model")
        #expect((root() / "model" / "layers" / 3 / "mlp").path == "model.layers.3.mlp")
    }

    @Test func everythingIsRegisteredInOrderOfConstruction() throws {
        let model = root() / "model"
        _ = try model.parameter("embed", shape: [4, 2])
        let linear = try model.linear("proj", inFeatures: 2, outFeatures: 3, bias: true)
        _ = try (model / "norm").parameter("weight", shape: [2])
        #expect(
            registry.parameters.map(\.path) == [
                "model.embed", "model.proj.bias", "model.norm.weight",
            ])
        #expect(registry.linears.map(\.path) == ["model.proj"])
        #expect(linear.weight.outFeatures == 3)
        #expect(linear.weight.inFeatures == 2)
        #expect(registry.parameters.allSatisfy { !$0.isTrainable })
        #expect(registry.trainableParameters.isEmpty)
        #expect(registry.headPath == nil)
    }

    @Test(arguments: [DType.float32, .bfloat16])
    func untiedHeadIsALinearOfItsOwn(dtype: DType) throws {
        let embedding = try root(dtype).parameter("embed", shape: [5, 3])
        let head = try root(dtype).head("lm_head", tiedTo: nil, shape: [5, 3])
        #expect(registry.headPath == "lm_head")
        #expect(registry.linears.map(\.path) == ["lm_head"])
        #expect(try !head.weight.dequantized().isEqual(to: embedding.value.to(.float32)))
        #expect(registry.numElements == 30)
        #expect(registry.sizeBytes == 30 * dtype.sizeBytes)
    }

    @Test(arguments: [DType.float32, .bfloat16])
    func tiedHeadIsTheEmbeddingAndCountsOnce(dtype: DType) throws {
        let embedding = try root(dtype).parameter("embed.weight", shape: [5, 3])
        let head = try root(dtype).head("lm_head", tiedTo: embedding, shape: [5, 3])
        _ = try root(dtype).linear("proj", inFeatures: 3, outFeatures: 2, bias: true)
        #expect(registry.headPath == "lm_head")
        #expect(registry.linears.map(\.path) == ["lm_head", "proj"])
        #expect(registry.numElements == 15 + 2 + 6)
        #expect(registry.sizeBytes == 23 * dtype.sizeBytes)

        #expect(head.weight.outFeatures == 5)
        #expect(head.weight.inFeatures == 3)
        #expect(head.weight.sizeBytes == 15 * dtype.sizeBytes)
        #expect(head.weight.storageDescription == "\(dtype.name), tied to embed.weight")
        #expect(head.weight.dense?.isSame(as: embedding.value) == true)
        #expect(try head.weight.dequantized().isEqual(to: embedding.value.to(.float32)))
        let input = try Tensor.random([2, 3], seed: 1).to(dtype)
        let output = try head(input, context: .segment(2))
        #expect(try output.isEqual(to: input.linear(embedding.value)))
    }

    @Test func unitHoldsWhatWasMadeInsideIt() throws {
        let layers = root() / "layers"
        _ = try layers.parameter("before", shape: [1])
        let (block, unit) = try layers.unit(7) { scope in
            _ = try (scope / "norm").parameter("weight", shape: [2])
            return try scope.linear("proj", inFeatures: 2, outFeatures: 2, bias: true)
        }
        _ = try layers.linear("after", inFeatures: 1, outFeatures: 1)
        #expect(unit.path == "layers.7")
        #expect(unit.parameters.map(\.path) == ["layers.7.norm.weight", "layers.7.proj.bias"])
        #expect(unit.linears.map(\.path) == ["layers.7.proj"])
        #expect(unit.trainableParameters.isEmpty)

        block.attach(try RowSumAdapter(path: block.path))
        #expect(unit.trainableParameters.map(\.path) == ["layers.7.proj.factor"])
        #expect(registry.trainableParameters.map(\.path) == ["layers.7.proj.factor"])
        #expect(registry.numElements == 1 + 2 + 2 + 4 + 1)
    }

    @Test func errorOfTheSourceComesOut() {
        struct Missing: Error, Equatable { let path: String }
        final class EmptySource: ParameterSource {
            func tensor(at path: String, shape: [Int]) throws -> Tensor {
                throw Missing(path: path)
            }
        }
        let scope = Scope(registry: registry, source: EmptySource()) / "model"
        #expect(throws: Missing(path: "model.proj.weight")) {
            _ = try scope.linear("proj", inFeatures: 2, outFeatures: 2)
        }
        #expect(registry.linears.isEmpty)
    }
}
