/// A chat that a template has written.
public struct RenderedChat: Sendable, Hashable {
    /// The text.
    public let text: String
    /// Where the text of `{% generation %}` blocks lies, as ranges of UTF-8 bytes.
    ///
    /// The ranges are those of transformers' `AssistantTracker`: a block inside a macro, or inside
    /// another block that captures its text, starts where the text in front of that one ends.
    public let generationSpans: [Range<Int>]
}

/// A chat template: Jinja2 as Hugging Face models use it.
///
/// Text is equal to Jinja2's in the environment of transformers: `trim_blocks`, `lstrip_blocks`,
/// loop controls, generation blocks, and the immutable sandbox. What is not supported is refused
/// with an error: inheritance, imports, `autoescape`, integers beyond 64 bits, and the filters
/// `filesizeformat`, `pprint`, `random`, `striptags`, `urlize`, `wordwrap` and `xmlattr`.
///
/// - Source: jinja2 3.1.6; transformers 5.23 `utils/chat_template_utils.py`.
public struct ChatTemplate: Sendable {
    /// The template as it was given.
    public let source: String

    private let statements: [TemplateStatement]

    /// Parses a template.
    ///
    /// - Parameter source: the text of `chat_template.jinja`, or of the key `chat_template`.
    /// - Throws: `TemplateError` with the line and what was expected there.
    public init(_ source: String) throws(TemplateError) {
        self.source = source
        statements = try TemplateParser.parse(source)
    }

    /// Writes a conversation.
    ///
    /// - Parameters:
    ///   - messages: objects, usually with `role` and `content`. As in transformers, reasoning
    ///     under one of its names is passed as `reasoning_content` and `thinking`.
    ///   - tools: JSON schemas of the functions that the model may call.
    ///   - addGenerationPrompt: whether the template opens an answer at the end.
    ///   - variables: further variables, such as `bos_token` and `enable_thinking`.
    ///   - time: what `strftime_now` tells.
    /// - Returns: the text and the spans of its generation blocks.
    /// - Throws: `TemplateError`; of kind `raised` if the template refuses the conversation.
    public func render(
        messages: [JSONValue], tools: [JSONValue]? = nil, addGenerationPrompt: Bool = false,
        variables: JSONObject = [:], time: TemplateTime = .current
    ) throws(TemplateError) -> RenderedChat {
        var context = variables
        var aliased: [JSONValue] = []
        for (index, message) in messages.enumerated() {
            guard case .object(let object) = message else {
                throw TemplateError(
                    .type,
                    "message \(index): expected an object, found \(message.kindDescription)")
            }
            aliased.append(.object(Self.aliasingReasoning(object)))
        }
        context["messages"] = .array(aliased)
        context["tools"] = tools.map { .array($0) } ?? .null
        context["documents"] = variables["documents", default: .null]
        context["add_generation_prompt"] = .bool(addGenerationPrompt)
        return try render(context: context, time: time)
    }

    /// Writes the template with exactly the given variables, besides the global functions.
    package func render(
        context: JSONObject, time: TemplateTime = .current
    ) throws(TemplateError) -> RenderedChat {
        var variables = TemplateGlobals.make(time: time)
        for (name, value) in context { variables[name] = TemplateValue(value) }
        return try TemplateInterpreter().render(statements, variables: variables)
    }

    /// Names under which reasoning is passed; templates read the first, or `thinking`.
    private static let reasoningKeys = ["reasoning_content", "thinking", "reasoning"]

    private static func aliasingReasoning(_ message: JSONObject) -> JSONObject {
        let reasoning = reasoningKeys.lazy.compactMap { message[$0] }.first { !$0.isNull }
        guard let reasoning else { return message }
        var aliased: JSONObject = ["thinking": reasoning]
        for (key, value) in message { aliased[key] = value }
        aliased["reasoning_content"] = reasoning
        return aliased
    }
}
