import Foundation
import PEFTTokenizers
import TestSupport
import Testing

/// Ids, byte offsets and decoded texts equal those of Hugging Face `tokenizers` and `transformers`.
struct TokenizerParityTests {
    @Test(arguments: [
        "gpt2", "prefix", "llama3", "qwen2", "smollm", "nfd", "llama2", "suffix", "metaspace",
        "gemma", "t5", "albert", "bert", "cased", "words", "roberta", "spelled",
    ])
    func equalsTokenizersOnTheCorpus(name: String) throws {
        try TokenizerFixture.expectEqual(
            TokenizerFixture.tokenizer(name), rows: name + ".tsv")
    }

    @Test(arguments: ["folder", "folder-bos"])
    func equalsTransformersOnAFolder(name: String) throws {
        let tokenizer = try Tokenizer.load(folder: TokenizerFixture.url(name))
        try TokenizerFixture.expectEqual(tokenizer, rows: name + ".tsv")
    }

    @Test(arguments: ["gpt2", "llama2", "nfd", "metaspace", "gemma", "t5", "bert", "words"])
    func streamingGivesTheDecodedText(name: String) throws {
        let tokenizer = try TokenizerFixture.tokenizer(name)
        for text in try TokenizerFixture.corpus() {
            let ids = try tokenizer.encode(text).ids
            for skips in [false, true] {
                var decoder = tokenizer.makeStreamingDecoder(skipSpecialTokens: skips)
                var streamed = ids.map { decoder.append($0) }.joined()
                streamed += decoder.finish()
                let decoded = try tokenizer.decode(ids, skipSpecialTokens: skips)
                #expect(Array(streamed.utf8) == Array(decoded.utf8))
            }
        }
    }

    @Test func streamingWaitsForWholeCharacters() throws {
        let tokenizer = try TokenizerFixture.tokenizer("gpt2")
        let bytes = try Array("字".utf8).map { byte in
            try #require(tokenizer.id(of: String(ByteAlphabet.scalars[Int(byte)])))
        }
        var decoder = tokenizer.makeStreamingDecoder()
        #expect(decoder.append(bytes[0]).isEmpty)
        #expect(decoder.append(bytes[1]).isEmpty)
        #expect(decoder.append(bytes[2]) == "字")
        #expect(decoder.append(bytes[0]).isEmpty)
        #expect(decoder.append(1 << 30).isEmpty)
        #expect(decoder.finish() == "\u{FFFD}")
        #expect(decoder.finish().isEmpty)
    }

    @Test func specialTokensAreLeftToTheCaller() throws {
        let tokenizer = try TokenizerFixture.tokenizer("llama3")
        let begin = try #require(tokenizer.id(of: "<|begin|>"))
        let end = try #require(tokenizer.id(of: "<|end|>"))
        let plain = try tokenizer.encode("a b", addSpecialTokens: false)
        let full = try tokenizer.encode("a b")
        #expect(full.ids == [begin] + plain.ids + [end])
        #expect(full.offsets == [0..<0] + plain.offsets + [0..<0])
        #expect(plain.offsets == [0..<1, 1..<3])
        #expect(tokenizer.isSpecial(begin))
        #expect(!tokenizer.isSpecial(plain.ids[0]))
    }

    @Test func vocabularyCountsAddedTokensOnce() throws {
        let tokenizer = try TokenizerFixture.tokenizer("gpt2")
        #expect(tokenizer.vocabularySize == 711)
        #expect(tokenizer.token(0) == "<|endoftext|>")
        #expect(tokenizer.token(710) == "  ")
        #expect(tokenizer.token(711) == nil)
        #expect(tokenizer.token(-1) == nil)
        #expect(tokenizer.id(of: "<both>") == tokenizer.id(of: "<right>").map { $0 + 1 })
        #expect(tokenizer.id(of: "no such token") == nil)
    }

    @Test func folderGivesRolesAndTemplate() throws {
        let tokenizer = try Tokenizer.load(folder: TokenizerFixture.url("folder"))
        let configuration = tokenizer.configuration
        #expect(configuration.bosToken == "<|endoftext|>")
        #expect(configuration.bosID == 0)
        #expect(configuration.eosToken == tokenizer.token(400))
        #expect(configuration.eosID == 400)
        #expect(tokenizer.isSpecial(400))
        #expect(configuration.padID == nil)
        #expect(configuration.addsBos == nil)
        #expect(configuration.chatTemplate == "{{ messages }}")
        let other = try Tokenizer.load(folder: TokenizerFixture.url("folder-bos")).configuration
        #expect(other.padID == tokenizer.id(of: "<both>"))
        #expect(other.addsBos == nil)
        #expect(other.chatTemplate == nil)
    }

    @Test func explicitFlagsReplaceThePostProcessor() throws {
        let tokenizer = try Tokenizer(
            tokenizerJSON: TokenizerFixture.data("llama3.json"),
            configuration: .init(bosToken: "<|endoftext|>", eosToken: "<|end|>", addsEos: true))
        let end = try #require(tokenizer.id(of: "<|end|>"))
        #expect(try tokenizer.encode("a").ids.last == end)
        #expect(try tokenizer.encode("").ids == [end])
    }

    @Test func templateFileWins() throws {
        let folder = try Checkout.temporaryFolder()
        defer { try? FileManager.default.removeItem(at: folder) }
        for name in ["tokenizer.json", "tokenizer_config.json"] {
            try FileManager.default.copyItem(
                at: TokenizerFixture.url("folder/" + name), to: folder.appending(path: name))
        }
        try Data("from the file".utf8).write(to: folder.appending(path: "chat_template.jinja"))
        let map = #"{"pad_token": {"content": "<plain>"}, "bos_token": "<both>"}"#
        try Data(map.utf8).write(to: folder.appending(path: "special_tokens_map.json"))
        let configuration = try Tokenizer.load(folder: folder).configuration
        #expect(configuration.chatTemplate == "from the file")
        #expect(configuration.padToken == "<plain>")
        #expect(configuration.bosToken == "<|endoftext|>")
    }

    @Test func concurrentCallsAgree() async throws {
        let tokenizer = try TokenizerFixture.tokenizer("qwen2")
        let texts = try TokenizerFixture.corpus()
        let expected = try texts.map { try tokenizer.encode($0) }
        try await withThrowingTaskGroup(of: Bool.self) { group in
            for _ in 0..<4 {
                group.addTask { try texts.map { try tokenizer.encode($0) } == expected }
            }
            for try await agrees in group { #expect(agrees) }
        }
    }
}
