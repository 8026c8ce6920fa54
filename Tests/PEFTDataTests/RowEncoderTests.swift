import Foundation
import PEFTData
import PEFTTokenizers
import TestSupport
import Testing

/// Text and conversations: tokens and masks against TRL's own preparation, and what is refused.
@Suite struct RowEncoderTests {
    private func tokenizer(_ name: String = "tokenizer") throws -> Tokenizer {
        try Tokenizer.load(folder: Checkout.fixture("data/\(name)"))
    }

    private static let caseNames = [
        "text", "text-bos", "prompt-completion", "prompt-completion-bos", "prompt-completion-all",
        "chat-completion", "chat-completion-bos", "chat-completion-all", "messages",
        "messages-bos", "tools", "assistant-marked", "assistant-prefixes", "assistant-completion",
        "text-keep_start", "messages-keep_start", "text-keep_end", "messages-keep_end",
    ]

    private func options(_ fixture: JSONValue) throws -> EncodingOptions {
        let given = try #require(fixture["options"])
        let mode = try given["truncation_mode"]?.stringValue.map {
            try #require(TruncationMode(rawValue: $0))
        }
        return EncodingOptions(
            maxLength: given["max_length"]?.intValue,
            truncationMode: mode ?? .error,
            completionOnlyLoss: given["completion_only_loss"]?.boolValue,
            assistantOnlyLoss: given["assistant_only_loss"]?.boolValue ?? false,
            chatTemplate: fixture["chat_template"]?.stringValue)
    }

    @Test func everyCaseOfTheFixtureIsTested() throws {
        let cases = try #require(fixture("sft.json").arrayValue)
        #expect(cases.map { $0["name"]?.stringValue } == Self.caseNames)
    }

    @Test(arguments: caseNames) func tokensAndMasksEqualThoseOfTRL(name: String) throws {
        let cases = try #require(fixture("sft.json").arrayValue)
        let expected = try #require(cases.first { $0["name"]?.stringValue == name })
        let rows = try #require(expected["rows"]?.arrayValue)
        let dataset = try dataset(
            rows.map { $0.serialized() }.joined(separator: "\n"),
            tokenizer: tokenizer(expected["tokenizer"]?.stringValue ?? ""),
            options: options(expected))
        let prepared = try #require(expected["expected"]?.arrayValue)
        #expect(dataset.sequences.count == prepared.count)
        for (sequence, trl) in zip(dataset.sequences, prepared) {
            let labels = try #require(trl["labels"]?.integers)
            #expect(sequence.tokens.map(Int.init) == trl["input_ids"]?.integers)
            // The first label is never used: the loss shifts labels by one.
            #expect(sequence.isTarget == [false] + labels.dropFirst().map { $0 != -100 })
        }
    }

    @Test func theAssistantSpeaksFromAfterItsHeaderThroughItsEndOfTurn() throws {
        let tokenizer = try tokenizer()
        let dataset = try dataset(
            """
            {"messages": [{"role": "user", "content": "sky"}, {"role": "assistant", "content": \
            "blue"}, {"role": "user", "content": "sun"}, {"role": "assistant", "content": "hot"}]}
            """, tokenizer: tokenizer, options: .init(assistantOnlyLoss: true))
        let sequence = dataset.sequences[0]
        let learned = zip(sequence.tokens, sequence.isTarget).filter(\.1).map { Int($0.0) }
        #expect(try tokenizer.decode(learned) == "blue<|im_end|>\nhot<|im_end|>\n")
        #expect(dataset.audit.numRowsWithoutEOSTarget == 0)
    }

    @Test func textEndsInOneEndOfSequenceToken() throws {
        let tokenizer = try tokenizer()
        let text = #"{"text": "sky<|im_end|>"}"# + "\n" + #"{"text": "sky"}"#
        let dataset = try dataset(text, tokenizer: tokenizer)
        #expect(dataset.sequences[0].tokens == dataset.sequences[1].tokens)
        #expect(dataset.audit.numRowsWithoutEOSTarget == 0)
        let asItIs = try self.dataset(text, tokenizer: tokenizer, options: .init(appendsEOS: false))
        #expect(asItIs.sequences[1].tokens == dataset.sequences[1].tokens.dropLast())
        #expect(asItIs.audit.numRowsWithoutEOSTarget == 1)
    }

    private func dataset(
        _ text: String, tokenizer: Tokenizer, options: EncodingOptions = EncodingOptions()
    ) throws -> TokenDataset {
        try RowsFile(Data(text.utf8)).read(tokenizer: tokenizer, options: options)
    }

    @Test func promptsThatEndInsideATokenAreCounted() throws {
        let rows = [
            #"{"prompt": "the ans", "completion": "wer is the answer"}"#,
            #"{"prompt": "The sky is", "completion": " blue"}"#,
        ]
        let audit = try dataset(rows.joined(separator: "\n"), tokenizer: tokenizer()).audit
        #expect(audit.numRowsWithPromptEndInsideToken == 1)
        #expect(
            audit.warnings == [
                "1 of 2 rows have a token across the border of prompt and completion: move the space "
                    + "before the completion into it"
            ])
    }

    @Test func turnsThatChangeWhatCameBeforeAreRefused() throws {
        // Shows the assistant's text only in the last turn, as templates do with reasoning.
        let template = """
            {% for message in messages %}<{{ message.role }}>\
            {% if message.role == 'user' or loop.last %}{{ message.content }}{% endif %}\
            {% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}
            """
        let chat = """
            {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, \
            {"role": "user", "content": "c"}, {"role": "assistant", "content": "d"}]}
            """
        let options = EncodingOptions(assistantOnlyLoss: true, chatTemplate: template)
        #expect(
            try errorText(chat, tokenizer: tokenizer(), options: options)
                == "rows.jsonl:1: messages[1]: with the chat template of this model, the conversation "
                + "before this assistant turn is not how the whole conversation begins, so it is "
                + "unknown which tokens the assistant says; mark them by {% generation %} in the "
                + "template, or split the conversation into rows of prompt and completion")
    }

    @Test func conversationsWithoutAssistantTeachNothing() throws {
        #expect(
            try errorText(
                #"{"messages": [{"role": "user", "content": "a"}]}"#, tokenizer: tokenizer(),
                options: .init(assistantOnlyLoss: true))
                == "rows.jsonl:1: no token of this row is learned: it has no assistant turn, and "
                + "assistant_only_loss is set; remove the row")
    }

    @Test func completionsWithoutTokensTeachNothing() throws {
        #expect(
            try errorText(
                #"{"prompt": "The sky", "completion": ""}"#, tokenizer: tokenizer(),
                options: .init(appendsEOS: false))
                == "rows.jsonl:1: no token of this row is learned: the completion adds no token to "
                + "the prompt; remove the row")
    }

    @Test func cutsThatLeaveNothingToLearnAreRefused() throws {
        let row = #"{"prompt": "The glacier moved slowly", "completion": " down"}"#
        #expect(
            try errorText(
                row, tokenizer: tokenizer(),
                options: .init(maxLength: 2, truncationMode: .keepStart))
                == "rows.jsonl:1: no token of this row is learned: keep_start to max_length = 2 cut "
                + "off all that was to be learned; raise max_length, shorten or remove the row, or "
                + "set truncation_mode to keep_end")
    }

    @Test func lossOptionsNeedRowsThatHaveThem() throws {
        #expect(
            try errorText(
                #"{"text": "a"}"#, tokenizer: tokenizer(), options: .init(assistantOnlyLoss: true))
                == "rows.jsonl:1: assistant_only_loss needs rows of messages, found a row of text; "
                + "unset it")
        #expect(
            try errorText(
                #"{"messages": [{"role": "user", "content": "a"}]}"#, tokenizer: tokenizer(),
                options: .init(completionOnlyLoss: true))
                == "rows.jsonl:1: completion_only_loss needs rows of prompt and completion, found a "
                + "row of messages; unset it")
    }

    @Test func tokenizersWithoutTemplateOrEndOfSequenceAreTold() throws {
        let json = try Data(contentsOf: Checkout.fixture("data/tokenizer/tokenizer.json"))
        let bare = try Tokenizer(tokenizerJSON: json)
        #expect(
            try errorText(#"{"messages": [{"role": "user", "content": "a"}]}"#, tokenizer: bare)
                == "rows.jsonl:1: a row of messages needs a chat template, and the tokenizer has none; "
                + "use an instruction model, add chat_template.jinja to the model, or write rows of "
                + #"{"text"}"#)
        #expect(
            try errorText(#"{"text": "a"}"#, tokenizer: bare)
                == "rows.jsonl:1: the text must end in the end-of-sequence token, and the tokenizer "
                + "names none; set eos_token in tokenizer_config.json")
        let text = #"{"text": "The sky"}"#
        let options = EncodingOptions(appendsEOS: false)
        #expect(try errorText(text, tokenizer: bare, options: options) == "no error")
        #expect(
            DatasetProblem.tokenizerFailed(reason: "why").description
                == "the text cannot be tokenized: why")
    }

    @Test func templatesThatFailAreTold() throws {
        let chat = #"{"messages": [{"role": "user", "content": "a"}]}"#
        #expect(
            try errorText(
                chat, tokenizer: tokenizer(),
                options: .init(chatTemplate: "\n{{ raise_exception('roles must alternate') }}"))
                == "rows.jsonl:1: the chat template, line 2, cannot render this conversation: roles "
                + "must alternate; change the row, or use another template")
        let unfinished = try errorText(
            chat, tokenizer: tokenizer(), options: .init(chatTemplate: "{% if"))
        #expect(unfinished.hasPrefix("rows.jsonl:1: the chat template, line 1, cannot render"))
        let broken = EncodingOptions(chatTemplate: "{% if")
        #expect(
            try errorText(#"{"text": "a"}"#, tokenizer: tokenizer(), options: broken) == "no error")
    }
}
