import Foundation
import PEFTData
import PEFTTokenizers

extension FuzzReader {
    /// Readers of text: tokenizers, chat templates, rows.
    static let textReaders = [
        FuzzReader(
            name: "tokenizer",
            samples: [
                "albert", "bert", "cased", "gemma", "llama3", "metaspace", "nfd", "prefix", "qwen2",
                "roberta", "suffix", "t5", "words",
            ].map { "tokenization/\($0).json" },
            words: [
                "\"type\"", "\"Sequence\"", "\"Split\"", "\"Regex\"", "\"String\"", "\"ByteLevel\"",
                "\"Metaspace\"", "\"Precompiled\"", "\"Unigram\"", "\"WordPiece\"", "\"BPE\"",
                "\"vocab\"", "\"merges\"", "\"id\"", "\"unk_id\"", "\"(a*)*b\"", "\"\\\\p{L}+\"",
            ],
            read: readTokenizer),
        FuzzReader(
            name: "tokenizer-folder", samples: ["tokenization/folder", "tokenization/folder-bos"],
            words: [
                "\"bos_token\"", "\"added_tokens_decoder\"", "\"content\"", "\"chat_template\"",
            ],
            read: { url in try use(try Tokenizer.load(folder: url)) }),
        FuzzReader(
            name: "template",
            samples: [
                "chatml_generation", "header_tools", "inst_alternating", "plain_prose", "smollm2",
                "thinking_tools", "turns_model",
            ].map { "templates/\($0).jinja" },
            words: [
                "{%- for m in messages %}", "{% endfor %}", "{% if ", "{% set x = ", "{{ ", " }}",
                "namespace(", "|tojson", "loop.index", "{% macro f(a) %}", "{% endmacro %}",
                "range(",
                " is defined", "{% generation %}", "{% endgeneration %}", ".split(", "[::-1]", "%d",
                "**",
                "{# ", " #}", "'%s' % ", "'{:>9}'.format(", "raise_exception('x')", "messages[0]",
            ],
            read: readTemplate),
        FuzzReader(
            name: "json-lines",
            samples: ["rows", "text", "prompts", "tokens"].map { "fuzz-seeds/\($0).jsonl" },
            words: [
                "\"messages\"", "\"role\"", "\"content\"", "\"prompt\"", "\"completion\"",
                "\"text\"",
                "\"tokens\"", "\"tools\"", "null", "[]", "{}", "\\ud800", "\r\n",
            ],
            read: readRows),
        FuzzReader(
            name: "parquet",
            samples: [
                "messages-v1-snappy", "messages-v2-plain", "messages-v2-zstd", "prompts-gzip",
                "tokens-delta", "types", "unused", "checked",
            ].map { "parquet_rows/\($0).parquet" },
            words: ["PAR1", "messages", "text", "role", "ARROW:schema"],
            read: readRows),
    ]

    /// Texts that every tokenizer and row encoder meets.
    private static let texts = [
        "", " ", "Hello,  world 12\n\n\t don't",
        "<|endoftext|> <both> e\u{301} 字😀\u{0}\u{FFFD} ▁▁a",
    ]

    @Sendable private static func readTokenizer(_ url: URL) throws {
        try use(try Tokenizer(tokenizerJSON: try Data(contentsOf: url)))
    }

    private static func use(_ tokenizer: Tokenizer) throws {
        for text in texts {
            let ids = try tokenizer.encode(text).ids
            _ = tokenizer.token(ids.last ?? 0)
            var decoder = tokenizer.makeStreamingDecoder(skipSpecialTokens: true)
            for id in ids.prefix(20) { _ = decoder.append(id) }
            _ = decoder.finish()
            _ = try tokenizer.decode(ids)
        }
    }

    @Sendable private static func readTemplate(_ url: URL) throws {
        let text = String(decoding: try Data(contentsOf: url), as: UTF8.self)
        let template = try ChatTemplate(text)
        let messages: [JSONValue] = [
            ["role": "system", "content": "Be brief."], ["role": "user", "content": "a {{ b }}"],
            [
                "role": "assistant", "content": nil, "reasoning_content": "hm",
                "tool_calls": [["function": ["name": "f", "arguments": ["x": 1.5]]]],
            ],
            ["role": "tool", "content": [["type": "text", "text": "21"]], "name": "f"],
        ]
        let variables: JSONObject = ["bos_token": "<s>", "eos_token": "</s>"]
        for tools in [nil, [["type": "function", "function": ["name": "f"]] as JSONValue]] {
            _ = try template.render(
                messages: messages, tools: tools, addGenerationPrompt: tools == nil,
                variables: variables)
        }
    }

    @Sendable private static func readRows(_ url: URL) throws {
        var options = EncodingOptions()
        options.ignoresExtraColumns = true
        _ = try TokenDataset.load(url, tokenizer: rowTokenizer, options: options)
    }

    /// The tokenizer of rows: the smallest that has a chat template.
    private static let rowTokenizer = try? Tokenizer(
        tokenizerJSON: Data(
            contentsOf: FuzzFiles.fixtures.appending(path: "tokenization/gpt2.json")),
        configuration: .init(
            eosToken: "<|im_end|>",
            chatTemplate: "{% for m in messages %}<|im_start|>{{ m.role }}\n"
                + "{% generation %}{{ m.content }}<|im_end|>{% endgeneration %}{% endfor %}"))
}
