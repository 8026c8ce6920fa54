package import PEFTTokenizers

/// Renders conversations by a chat template, tokenizes them, and finds what the assistant says.
///
/// - Source: transformers 5.23 `tokenization_utils_base.py:apply_chat_template`: keys of messages that
///   are null are dropped, no special tokens are added to the rendered text.
struct ChatEncoder: Sendable {
    private let template: ChatTemplate
    private let tokenizer: Tokenizer
    private let specialTokens: JSONObject

    /// Reads the template.
    init(template source: String, tokenizer: Tokenizer) throws(DatasetProblem) {
        do {
            template = try ChatTemplate(source)
        } catch {
            throw .chatTemplateFailed(line: error.line, reason: error.message)
        }
        self.tokenizer = tokenizer
        specialTokens = tokenizer.configuration.templateVariables
    }

    /// The tokens of a prompt, up to where the assistant begins to speak.
    func promptTokens(
        _ messages: [JSONValue], _ context: ChatContext
    ) throws(DatasetProblem) -> [Int32] {
        let rendered = try render(messages[...], context, addGenerationPrompt: true)
        return try tokenizer.tokens(of: rendered.text, addSpecialTokens: false).ids.map(Int32.init)
    }

    /// The tokens of a conversation, all learned or only the assistant's.
    func encode(
        _ messages: [JSONValue], _ context: ChatContext, assistantOnly: Bool
    ) throws(DatasetProblem) -> RowEncoder.EncodedRow {
        let rendered = try render(messages[...], context)
        let encoding = try tokenizer.tokens(of: rendered.text, addSpecialTokens: false)
        let isTarget: [Bool]
        if assistantOnly {
            let marked = rendered.generationSpans
            let spans = marked.isEmpty ? try turnSpans(messages, context, rendered.text) : marked
            isTarget = Self.tokens(at: encoding.offsets, overlapping: spans)
        } else {
            isTarget = Array(repeating: true, count: encoding.ids.count)
        }
        return RowEncoder.EncodedRow(tokens: encoding.ids.map(Int32.init), isTarget: isTarget)
    }

    /// Where the assistant speaks, for templates without marks: what each of its turns adds to the
    /// conversation before it, the generation prompt included there.
    ///
    /// - Throws: `turnIsNotAppended` where a turn changes how the template renders what came before
    ///   it, or a later turn changes how it renders this one.
    private func turnSpans(
        _ messages: [JSONValue], _ context: ChatContext, _ whole: String
    ) throws(DatasetProblem) -> [Range<Int>] {
        var spans: [Range<Int>] = []
        for (turn, message) in messages.enumerated()
        where message["role"]?.stringValue == "assistant" {
            // Templates need not render a conversation of nothing.
            guard turn > 0 else { throw .turnIsNotAppended(turn: turn) }
            let before = try render(messages[..<turn], context, addGenerationPrompt: true).text.utf8
            let after = try render(messages[...turn], context).text.utf8
            guard after.starts(with: before), whole.utf8.starts(with: after) else {
                throw .turnIsNotAppended(turn: turn)
            }
            spans.append(before.count..<after.count)
        }
        return spans
    }

    /// Marks the tokens that share a byte with a span; both are in ascending order.
    private static func tokens(
        at offsets: [Range<Int>], overlapping spans: [Range<Int>]
    ) -> [Bool] {
        var remaining = spans[...]
        return offsets.map { offset in
            while let span = remaining.first, span.upperBound <= offset.lowerBound {
                remaining.removeFirst()
            }
            return remaining.first?.overlaps(offset) ?? false
        }
    }

    private func render(
        _ messages: ArraySlice<JSONValue>, _ context: ChatContext, addGenerationPrompt: Bool = false
    ) throws(DatasetProblem) -> RenderedChat {
        var variables = specialTokens
        for (name, value) in context.variables { variables[name] = value }
        do {
            return try template.render(
                messages: messages.map(Self.withoutNulls), tools: context.tools,
                addGenerationPrompt: addGenerationPrompt, variables: variables)
        } catch {
            throw .chatTemplateFailed(line: error.line, reason: error.message)
        }
    }

    private static func withoutNulls(_ message: JSONValue) -> JSONValue {
        guard let object = message.objectValue else { return message }
        return .object(
            JSONObject(object.lazy.filter { !$0.value.isNull }.map { ($0.key, $0.value) }))
    }
}

extension TokenizerConfiguration {
    /// The names under which chat templates know the special tokens.
    package var templateVariables: JSONObject {
        let tokens = [
            ("bos_token", bosToken), ("eos_token", eosToken), ("unk_token", unkToken),
            ("pad_token", padToken),
        ]
        return JSONObject(tokens.compactMap { name, token in token.map { (name, .string($0)) } })
    }
}
