import PEFTLayers
import TestSupport
import Testing
import Torch

@Suite struct EmbeddingTests {
    private func makeEmbedding(vocabularySize: Int = 7, hiddenSize: Int = 3) throws -> Embedding {
        let scope = Scope(registry: ModuleRegistry(), source: RandomSource(seed: 1))
        return try Embedding(
            vocabularySize: vocabularySize, hiddenSize: hiddenSize, scope / "embed_tokens")
    }

    @Test func rowsAreLookedUpByInt32AndInt64() throws {
        let embedding = try makeEmbedding()
        let table = embedding.weight.value
        let expected = try Tensor.stacked([6, 0, 6, 3].map { try table.select(0, $0) })
        #expect(try embedding(Tensor([6, 0, 6, 3] as [Int64], shape: [4])).isEqual(to: expected))
        #expect(try embedding(Tensor([6, 0, 6, 3] as [Int32], shape: [4])).isEqual(to: expected))
        #expect(embedding.weight.path == "embed_tokens.weight")
    }

    @Test func gradientOfARepeatedTokenAddsUp() throws {
        let embedding = try makeEmbedding()
        let table = embedding.weight.value
        try table.setRequiresGrad(true)
        try embedding(Tensor([2, 5, 2] as [Int64], shape: [3])).sum().backward()
        #expect(try table.grad?.sum([1]).floats() == [0, 0, 6, 0, 0, 3, 0])
    }

    @Test(arguments: [7, -1] as [Int64])
    func tokenOutOfRangeIsAnError(token: Int64) throws {
        let embedding = try makeEmbedding()
        #expect(throws: TorchError.self) {
            _ = try embedding(Tensor([1, token], shape: [2]))
        }
    }
}
