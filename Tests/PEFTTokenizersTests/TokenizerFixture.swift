import Foundation
import PEFTTokenizers
import TestSupport
import Testing

/// The committed corpus and what Hugging Face's tokenizers make of it.
enum TokenizerFixture {
    /// A file of the fixture folder.
    static func url(_ name: String) -> URL { Checkout.fixture("tokenization/" + name) }

    /// The content of a file of the fixture folder.
    static func data(_ name: String) throws -> Data { try Data(contentsOf: url(name)) }

    /// All texts.
    static func corpus() throws -> [String] {
        try lines("corpus.jsonl").map { try #require(try JSONValue(parsing: $0).stringValue) }
    }

    /// Row by row: number of tokens, hashes of ids, offsets, decoded text, without special tokens.
    static func rows(_ name: String) throws -> [[String]] {
        try lines(name).map { $0.split(separator: "\t").map(String.init) }
    }

    private static func lines(_ name: String) throws -> [String] {
        let text = String(decoding: try data(name), as: UTF8.self)
        return text.utf8.split(separator: 0x0A).map { String(decoding: $0, as: UTF8.self) }
    }

    /// The tokenizer of a fixture file.
    static func tokenizer(_ name: String) throws -> Tokenizer {
        try Tokenizer(tokenizerJSON: data(name + ".json"))
    }

    /// Lower half of 64-bit FNV-1a, as the fixture script writes it.
    static func hash(_ bytes: some Sequence<UInt8>) -> String {
        var value: UInt64 = 0xCBF2_9CE4_8422_2325
        for byte in bytes { value = (value ^ UInt64(byte)) &* 0x100_0000_01B3 }
        let hex = String(value & 0xFFFF_FFFF, radix: 16)
        return String(repeating: "0", count: 8 - hex.count) + hex
    }

    /// The row that our tokenizer gives for `text`.
    static func row(_ tokenizer: Tokenizer, _ text: String) throws -> [String] {
        let encoding = try tokenizer.encode(text)
        let ids = encoding.ids.map(String.init).joined(separator: ",")
        let offsets = encoding.offsets.map { "\($0.lowerBound)-\($0.upperBound)" }
        let skipping = try tokenizer.decode(encoding.ids, skipSpecialTokens: true)
        return [
            String(encoding.ids.count), hash(ids.utf8), hash(offsets.joined(separator: ",").utf8),
            hash(try tokenizer.decode(encoding.ids).utf8), hash(skipping.utf8),
        ]
    }

    /// Compares all texts with the rows of `name`; names the first texts that differ.
    static func expectEqual(_ tokenizer: Tokenizer, rows name: String) throws {
        let texts = try corpus()
        let expected = try rows(name)
        #expect(texts.count == expected.count)
        var numDifferent = 0
        for (text, row) in zip(texts, expected) where numDifferent < 3 {
            let found = try Self.row(tokenizer, text)
            if found != row { numDifferent += 1 }
            let ids = try tokenizer.encode(text).ids
            #expect(found == row, "\(name): \(text.debugDescription): ids \(ids)")
        }
    }
}
