import Foundation
import PEFTTokenizers
import TestSupport
import Testing

/// Tokenizers of GGUF metadata equal what `transformers` makes of the same metadata.
struct TokenizerGGUFTests {
    @Test(arguments: ["gpt-2", "smollm", "llama-bpe", "qwen2", "qwen35", "tekken", "gpt-4o"])
    func equalsTransformersForEachExpression(pre: String) throws {
        var vocabulary = try smallVocabulary()
        vocabulary.pre = pre
        try TokenizerFixture.expectEqual(
            Tokenizer(gguf: vocabulary), rows: "gguf-\(pre).tsv")
    }

    @Test(
        .enabled(
            if: FileManager.default.fileExists(atPath: Checkout.demoModel.path),
            "the demo model is missing; `make model` fetches it"))
    func equalsTransformersForTheDemoModel() throws {
        let file = try Data(contentsOf: Checkout.demoModel, options: .mappedIfSafe)
        let tokenizer = try Tokenizer(gguf: TokenizerGGUFReader.vocabulary(file))
        try TokenizerFixture.expectEqual(tokenizer, rows: "smollm2.tsv")
        #expect(tokenizer.vocabularySize == 49_152)
        #expect(tokenizer.configuration.bosToken == "<|im_start|>")
        #expect(tokenizer.configuration.eosID == 2)
        #expect(tokenizer.configuration.unkID == 0)
    }

    @Test func filesWithoutANameAreGPT2s() throws {
        var vocabulary = try smallVocabulary()
        vocabulary.pre = nil
        try TokenizerFixture.expectEqual(Tokenizer(gguf: vocabulary), rows: "gguf-gpt-2.tsv")
    }

    @Test func rolesAreSpecialAndAdded() throws {
        var vocabulary = try smallVocabulary()
        vocabulary.tokenTypes = []
        vocabulary.bosID = 700
        vocabulary.eosID = 0
        vocabulary.addsBos = true
        vocabulary.addsEos = true
        let tokenizer = try Tokenizer(gguf: vocabulary)
        let ids = try tokenizer.encode("<|im_start|>").ids
        #expect(ids == [700, 700, 0])
        #expect(try tokenizer.decode(ids, skipSpecialTokens: true).isEmpty)
        #expect(!tokenizer.isSpecial(702))
    }

    @Test func llama3BeginsTextsUnlessTheFileSaysNo() throws {
        var vocabulary = try smallVocabulary()
        vocabulary.pre = "llama-bpe"
        vocabulary.bosID = 700
        #expect(try Tokenizer(gguf: vocabulary).encode("a").ids.first == 700)
        vocabulary.addsBos = false
        #expect(try Tokenizer(gguf: vocabulary).encode("a").ids.count == 1)
    }

    @Test func badMetadataIsNamed() throws {
        var vocabulary = try smallVocabulary()
        vocabulary.model = "t5"
        expect(
            vocabulary,
            "GGUF metadata: tokenizer.ggml.model: the type \"t5\" is not supported; "
                + "known types: gpt2, llama")
        vocabulary = try smallVocabulary()
        vocabulary.pre = "viking"
        #expect(throws: TokenizerError.self) { try Tokenizer(gguf: vocabulary) }
        vocabulary = try smallVocabulary()
        vocabulary.eosID = 703
        expect(
            vocabulary,
            "GGUF metadata: tokenizer.ggml.eos_token_id: expected an id below 703, found 703")
        vocabulary = try smallVocabulary()
        vocabulary.tokenTypes = [1, 1]
        expect(
            vocabulary,
            "GGUF metadata: tokenizer.ggml.token_type: expected 703 types, found 2")
        vocabulary = try smallVocabulary()
        vocabulary.merges[5] = "a b c"
        expect(
            vocabulary,
            "GGUF metadata: tokenizer.ggml.merges[5]: expected \"left right\" or "
                + "[\"left\", \"right\"], found \"a b c\"")
    }

    @Test(arguments: ["llama", "phi3", "gemma3"], [false, true])
    func equalsTransformersOnSentencePiece(architecture: String, hasMerges: Bool) throws {
        var vocabulary = try sentencePieceVocabulary()
        vocabulary.architecture = architecture
        if hasMerges {
            vocabulary.merges = try #require(
                try JSONValue(parsing: TokenizerFixture.data("gguf-spm-merges.json")).arrayValue
            ).compactMap(\.stringValue)
        }
        try TokenizerFixture.expectEqual(
            Tokenizer(gguf: vocabulary),
            rows: "gguf-spm-\(architecture)\(hasMerges ? "-merges" : "").tsv")
    }

    @Test func sentencePieceBeginsTextsUnlessTheFileSaysNo() throws {
        var vocabulary = try sentencePieceVocabulary()
        vocabulary.bosID = 1
        let tokenizer = try Tokenizer(gguf: vocabulary)
        let ids = try tokenizer.encode("th").ids
        #expect(ids.first == 1)
        #expect(try tokenizer.decode(ids, skipSpecialTokens: true) == "th")
        vocabulary.addsBos = false
        #expect(try Tokenizer(gguf: vocabulary).encode("th").ids == Array(ids.dropFirst()))
    }

    @Test func sentencePieceNeedsScoresOrMerges() throws {
        var vocabulary = try sentencePieceVocabulary()
        vocabulary.scores.removeLast()
        let count = vocabulary.tokens.count
        expect(
            vocabulary,
            "GGUF metadata: tokenizer.ggml.scores: expected \(count) numbers, or "
                + "tokenizer.ggml.merges, found \(count - 1)")
        vocabulary.scores.append(.nan)
        expect(
            vocabulary,
            "GGUF metadata: tokenizer.ggml.scores: expected \(count) numbers, or "
                + "tokenizer.ggml.merges, found NaN")
    }

    private func sentencePieceVocabulary() throws -> GGUFVocabulary {
        let file = try JSONValue(parsing: TokenizerFixture.data("gguf-spm.json"))
        return GGUFVocabulary(
            model: "llama",
            tokens: try #require(file["tokens"]?.arrayValue).compactMap(\.stringValue),
            scores: try #require(file["scores"]?.arrayValue).compactMap(\.doubleValue),
            tokenTypes: try #require(file["token_type"]?.arrayValue).compactMap(\.intValue))
    }

    private func expect(_ vocabulary: GGUFVocabulary, _ message: String) {
        let error = #expect(throws: TokenizerError.self) { try Tokenizer(gguf: vocabulary) }
        #expect(error?.description == message)
    }

    /// The vocabulary of gpt2.json with three more tokens, as the fixture script makes it.
    private func smallVocabulary() throws -> GGUFVocabulary {
        let model = try #require(
            try JSONValue(parsing: TokenizerFixture.data("gpt2.json"))["model"])
        let entries = try #require(model["vocab"]?.objectValue)
        var tokens = [String](repeating: "", count: entries.count)
        for (token, id) in entries { tokens[try #require(id.intValue)] = token }
        let merges = try #require(model["merges"]?.arrayValue).map { merge in
            try #require(merge.arrayValue).compactMap(\.stringValue).joined(separator: " ")
        }
        let types = tokens.map { $0 == "<|endoftext|>" ? 3 : 1 }
        return GGUFVocabulary(
            model: "gpt2", pre: "gpt-2",
            tokens: tokens + ["<|im_start|>", "<|im_end|>", "<plain>"],
            tokenTypes: types + [3, 3, 4], merges: merges)
    }
}
