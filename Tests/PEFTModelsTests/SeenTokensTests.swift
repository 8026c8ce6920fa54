import Foundation
import PEFTCheckpoints
import PEFTLayers
import PEFTModels
import TestSupport
import Testing
import Torch

/// What a model has read is not run again, and changes no token of what follows.
@Suite struct SeenTokensTests {
    /// Windows, a cap of scores, tables of positions, frequencies that follow the length, experts.
    static let models = [
        "grouped", "mistral", "gemma2", "gpt2", "gpt-neox", "rope-dynamic", "mixtral-window",
    ]

    private func model(_ name: String) throws -> any CausalLanguageModel {
        let files = try BaseModelFiles.open(Checkout.fixture("models/\(name)"))
        return try ModelRegistry.makeModel(
            config: files.configuration,
            Scope(registry: ModuleRegistry(), source: files.source))
    }

    @Test(arguments: models)
    func aLongerPromptGoesOn(name: String) throws {
        let model = try model(name)
        let generation = try TokenGeneration(model)
        let seen = SeenTokens()
        func run(_ prompt: [Int], _ seen: SeenTokens?) throws -> [Int] {
            try generation.run(prompt: prompt, maxNewTokens: 7, stopTokens: [], seen: seen).tokens
        }
        let first = [3, 1, 4, 1, 5]
        let answer = try run(first, seen)
        #expect(try answer == run(first, nil))
        #expect(seen.numReused == 0)
        // All but the last new token has been run.
        #expect(seen.tokens == first + answer.dropLast())

        let second = first + answer + [9, 2, 6, 5]
        #expect(try run(second, seen) == run(second, nil))
        #expect(name == "rope-dynamic" || seen.numReused == first.count + answer.count - 1)
        // Another continuation of the first prompt, then the same once more: its last token is run again.
        let other = first + [8, 8, 8]
        #expect(try run(other, seen) == run(other, nil))
        #expect(seen.numReused >= (name == "rope-dynamic" ? 0 : first.count))
        #expect(try run(other, seen) == run(other, nil))
        #expect(name == "rope-dynamic" || seen.numReused == other.count - 1)
        // Nothing in common.
        #expect(try run([7, 7], seen) == run([7, 7], nil))
        #expect(seen.numReused == 0)
    }

    @Test func truncatedCachesHoldTheFirstTokens() throws {
        let cache = KeyValueCache()
        let states = try Tensor.normal(
            [9, 1, 2], standardDeviation: 1, generator: Generator(seed: 4))
        for layer in 0..<2 { _ = try cache.append(layer: layer, keys: states, values: states) }
        cache.truncate(to: 12)
        #expect(cache.numTokens == 9)
        cache.truncate(to: 4)
        #expect(cache.numTokens == 4)
        let last = try states.narrow(0, 7, 2)
        let all = try cache.append(layer: 1, keys: last, values: last)
        #expect(
            try all.keys.isEqual(to: Tensor.concatenated([states.narrow(0, 0, 4), last])))
    }
}
