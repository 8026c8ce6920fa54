package import PEFTTokenizers

/// One row of a dataset, its columns checked.
package enum DatasetRow: Hashable, Sendable {
    /// A text to continue.
    case text(String)
    /// A prompt and its completion.
    case promptCompletion(prompt: String, completion: String)
    /// A prompt and its completion as messages; the chat template joins them.
    case chatCompletion(prompt: [JSONValue], completion: [JSONValue], context: ChatContext)
    /// A conversation.
    case messages([JSONValue], context: ChatContext)
    /// Token ids.
    case tokens([Int32])
    /// Two completions of a prompt, each a row of prompt and completion.
    indirect case pair(chosen: DatasetRow, rejected: DatasetRow)
    /// A row of prompt and completion, and whether the completion is good.
    indirect case feedback(DatasetRow, isDesirable: Bool)

    /// The row's kind.
    package var kind: RowKind {
        switch self {
        case .text: .text
        case .promptCompletion: .promptCompletion
        case .chatCompletion: .chatCompletion
        case .messages: .messages
        case .tokens: .tokens
        case .pair: .pair
        case .feedback: .feedback
        }
    }
}

/// What a chat template knows beside the messages.
package struct ChatContext: Hashable, Sendable {
    /// The functions that the assistant may call, as JSON schemas.
    package var tools: [JSONValue]?
    /// Further variables of the template.
    package var variables: JSONObject

    /// Makes a context.
    package init(tools: [JSONValue]? = nil, variables: JSONObject = [:]) {
        self.tools = tools
        self.variables = variables
    }
}
