import Foundation
import PEFTTokenizers
import TestSupport
import Testing

/// Bad files are refused with a message that says what, where and what to do.
struct TokenizerErrorTests {
    /// A change of gpt2.json and the message that it must give.
    struct Case: Sendable, CustomTestStringConvertible {
        let path: [String]
        let value: JSONValue?
        let message: String

        var testDescription: String { path.joined(separator: ".") + " -> " + message }
    }

    static let cases = [
        Case(
            path: ["pre_tokenizer"], value: ["type": "UnicodeScripts"],
            message: "tokenizer.json: pre_tokenizer: the type \"UnicodeScripts\" is not supported; "
                + "known types: BertPreTokenizer, ByteLevel, CharDelimiterSplit, Digits, "
                + "FixedLength, Metaspace, Punctuation, Sequence, Split, Whitespace, "
                + "WhitespaceSplit"),
        Case(
            path: ["normalizer"], value: ["type": "Sequence", "normalizers": [["type": "Upper"]]],
            message:
                "tokenizer.json: normalizer.normalizers[0]: the type \"Upper\" is not supported; "
                + "known types: BertNormalizer, ByteLevel, Lowercase, NFC, NFD, NFKC, NFKD, Nmt, "
                + "Precompiled, Prepend, Replace, Sequence, Strip, StripAccents"),
        Case(
            path: ["model", "type"], value: "Trigram",
            message: "tokenizer.json: model: the type \"Trigram\" is not supported; "
                + "known types: BPE, Unigram, WordLevel, WordPiece"),
        Case(
            path: ["decoder"], value: ["type": "Morse"],
            message: "tokenizer.json: decoder: the type \"Morse\" is not supported; "
                + "known types: BPEDecoder, ByteFallback, ByteLevel, CTC, Fuse, Metaspace, "
                + "Replace, Sequence, Strip, WordPiece"),
        Case(
            path: ["post_processor"], value: ["type": "GPTProcessing"],
            message:
                "tokenizer.json: post_processor: the type \"GPTProcessing\" is not supported; "
                + "known types: BertProcessing, ByteLevel, RobertaProcessing, Sequence, "
                + "TemplateProcessing"),
        Case(
            path: ["post_processor"], value: ["type": "BertProcessing", "cls": ["[CLS]", 2]],
            message: "tokenizer.json: post_processor: expected a member \"sep\", found none"),
        Case(
            path: ["pre_tokenizer"],
            value: ["type": "Metaspace", "replacement": "__", "prepend_scheme": "first"],
            message: "tokenizer.json: pre_tokenizer.replacement: expected one character, "
                + "found \"__\""),
        Case(
            path: ["pre_tokenizer"],
            value: ["type": "Metaspace", "replacement": "_", "add_prefix_space": false],
            message: "tokenizer.json: pre_tokenizer.add_prefix_space: expected true, or the "
                + "prepend_scheme \"never\", found false"),
        Case(
            path: ["pre_tokenizer"], value: ["type": "FixedLength", "length": 0],
            message: "tokenizer.json: pre_tokenizer.length: expected an integer above 0, found 0"),
        Case(
            path: ["normalizer"], value: ["type": "Precompiled", "precompiled_charsmap": "AAA"],
            message: "tokenizer.json: normalizer.precompiled_charsmap: expected base64, "
                + "found other text"),
        Case(
            path: ["normalizer"],
            value: ["type": "Precompiled", "precompiled_charsmap": "CAAAAA=="],
            message: "tokenizer.json: normalizer.precompiled_charsmap: expected the size of a "
                + "double array and the array, found 4 bytes"),
        Case(
            path: ["model"], value: ["type": "Unigram", "vocab": [["a", -1.0], ["b"]]],
            message: "tokenizer.json: model.vocab[1]: expected [token, score], found an array"),
        Case(
            path: ["model"], value: ["type": "Unigram", "vocab": [["a", -1.0]], "unk_id": 1],
            message: "tokenizer.json: model.unk_id: expected an id below 1, found 1"),
        Case(
            path: ["model"], value: ["type": "WordPiece", "vocab": ["a": 0]],
            message: "tokenizer.json: model: expected a member \"unk_token\", found none"),
        Case(
            path: ["model"], value: nil,
            message: "tokenizer.json: the top level: expected a member \"model\", found none"),
        Case(
            path: ["model", "merges"], value: .null,
            message: "tokenizer.json: model: expected a member \"merges\", found null"),
        Case(
            path: ["model", "merges"], value: [["a", "nope"]],
            message: "tokenizer.json: model.merges[0]: the token \"nope\" is not in the vocabulary"),
        Case(
            path: ["model", "merges"], value: ["a"],
            message: "tokenizer.json: model.merges[0]: expected \"left right\" or "
                + "[\"left\", \"right\"], found \"a\""),
        Case(
            path: ["model", "unk_token"], value: "<unk>",
            message: "tokenizer.json: unk_token: the token \"<unk>\" is not in the vocabulary"),
        Case(
            path: ["model", "vocab", "a"], value: "x",
            message: "tokenizer.json: model.vocab[\"a\"]: expected an id from 0 to 16777215, "
                + "found \"x\""),
        Case(
            path: ["model", "dropout"], value: 0.1,
            message: "tokenizer.json: model.dropout: merge dropout is not supported; "
                + "set it to null: it makes tokenization random"),
        Case(
            path: ["model", "byte_fallback"], value: 1,
            message: "tokenizer.json: model.byte_fallback: expected true or false, found 1"),
        Case(
            path: ["version"], value: "2.0",
            message: "tokenizer.json: version: expected \"1.0\", found \"2.0\""),
        Case(
            path: ["added_tokens"], value: [["content": "<new>", "id": 900]],
            message: "tokenizer.json: added_tokens: \"<new>\" would get id 700 from its place, "
                + "the file says 900; save the tokenizer again with Hugging Face tokenizers"),
        Case(
            path: ["pre_tokenizer"],
            value: [
                "type": "Split", "pattern": ["Regex": "(a"], "behavior": "Isolated",
                "invert": false,
            ],
            message: "the regular expression (a failed: end pattern with unmatched parenthesis"),
        Case(
            path: ["pre_tokenizer"],
            value: [
                "type": "Split",
                "pattern": ["Regex": .string("(?i:" + String(repeating: "a", count: 16_380) + ")")],
                "behavior": "Isolated", "invert": false,
            ],
            message:
                "the regular expression (?i:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa... failed: it has "
                + "16385 bytes, and at most 16384 are compiled"),
        Case(
            path: ["pre_tokenizer"],
            value: ["type": "Split", "pattern": ["String": "a"], "behavior": "Kept"],
            message: "tokenizer.json: pre_tokenizer.behavior: expected one of Removed, Isolated, "
                + "MergedWithPrevious, MergedWithNext, Contiguous, found \"Kept\""),
        Case(
            path: ["post_processor"],
            value: [
                "type": "TemplateProcessing", "special_tokens": [:],
                "single": [["SpecialToken": ["id": "<s>", "type_id": 0]]],
            ],
            message: "tokenizer.json: post_processor.special_tokens: expected a member \"<s>\", "
                + "found none"),
        Case(
            path: ["post_processor"],
            value: ["type": "TemplateProcessing", "special_tokens": [:], "single": []],
            message:
                "tokenizer.json: post_processor.single: expected one sequence in the template, "
                + "found none"),
    ]

    @Test(arguments: cases)
    func isNamed(badFile: Case) throws {
        let file = try JSONValue(parsing: TokenizerFixture.data("gpt2.json"))
        let changed = Self.change(file, badFile.path[...], to: badFile.value)
        let error = #expect(throws: TokenizerError.self) {
            try Tokenizer(tokenizerJSON: Data(changed.serialized().utf8))
        }
        #expect(error?.description == badFile.message)
    }

    @Test(arguments: [
        #"{"type": "Unigram", "vocab": [["a", -1.0]]}"#,
        #"{"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "[UNK]"}"#,
        #"{"type": "WordPiece", "vocab": {"a": 0}, "unk_token": "[UNK]", "#
            + #""continuing_subword_prefix": "", "max_input_chars_per_word": 9}"#,
    ])
    func textWithoutATokenIsNamed(model: String) throws {
        let tokenizer = try Tokenizer(tokenizerJSON: Data("{\"model\": \(model)}".utf8))
        #expect(try tokenizer.encode("a").ids == [0])
        let error = #expect(throws: TokenizerError.self) { try tokenizer.encode("xa") }
        #expect(
            error?.description
                == "the vocabulary has no token for \"xa\" and names none for unknown text; "
                + "add an unknown token, or leave such text out")
    }

    @Test func textThatIsNoJSONIsRefused() {
        let error = #expect(throws: TokenizerError.self) {
            try Tokenizer(tokenizerJSON: Data("{\"version\": }".utf8))
        }
        #expect(error?.description.hasPrefix("tokenizer.json: invalid JSON at line 1") == true)
    }

    @Test func rolesMustBeTokens() throws {
        let data = try TokenizerFixture.data("gpt2.json")
        let error = #expect(throws: TokenizerError.self) {
            try Tokenizer(tokenizerJSON: data, configuration: .init(eosToken: "</s>"))
        }
        #expect(
            error?.description
                == "tokenizer.json: eos_token: the token \"</s>\" is not in the vocabulary")
        let other = #expect(throws: TokenizerError.self) {
            try Tokenizer(tokenizerJSON: data, configuration: .init(addsBos: true))
        }
        #expect(
            other?.description
                == "tokenizer.json: add_bos_token: expected false, or a bos_token, found true")
    }

    @Test func missingFolderIsNamed() throws {
        let folder = try Checkout.temporaryFolder()
        defer { try? FileManager.default.removeItem(at: folder) }
        let error = #expect(throws: TokenizerError.self) { try Tokenizer.load(folder: folder) }
        let path = folder.appending(path: "tokenizer.json").path
        #expect(error?.description.hasPrefix("\(path): cannot be read: ") == true)
    }

    @Test func unknownIDsAreRefused() throws {
        let tokenizer = try TokenizerFixture.tokenizer("gpt2")
        let error = #expect(throws: TokenizerError.self) { try tokenizer.decode([1, 711]) }
        #expect(
            error?.description
                == "token id 711 is not in the vocabulary of 711 tokens; "
                + "do the ids come from another tokenizer?")
    }

    /// `value` with the member at `path` replaced or removed.
    private static func change(
        _ value: JSONValue, _ path: ArraySlice<String>, to member: JSONValue?
    ) -> JSONValue {
        guard let key = path.first, var object = value.objectValue else { return member ?? .null }
        object[key] =
            path.count == 1 ? member : change(object[key] ?? [:], path.dropFirst(), to: member)
        return .object(object)
    }
}
