/// The kinds of rows, told apart by their columns.
package enum RowKind: String, CaseIterable, Sendable {
    /// A text to continue.
    case text
    /// A prompt and its completion, two strings.
    case promptCompletion
    /// A prompt and its completion, two lists of messages.
    case chatCompletion
    /// A conversation.
    case messages
    /// Token ids.
    case tokens
    /// A prompt with a better and a worse completion: strings, or lists of messages.
    case pair
    /// A prompt, a completion and whether it is good: strings, or lists of messages.
    case feedback

    /// The kinds' columns, for messages.
    package static let listing = #"{"text"}, {"prompt", "completion"}, {"messages"} or {"tokens"}"#

    /// The columns that say which kind a row is.
    package static let definingColumns = ["text", "prompt", "completion", "messages", "tokens"]

    /// The columns that a conversation may have besides.
    package static let chatColumns = ["tools", "chat_template_kwargs"]

    /// TRL's columns that change what is learned and that no kind has.
    package static let unsupportedColumns: Set<String> = [
        "input_ids", "labels", "completion_mask", "assistant_masks", "attention_mask",
        "position_ids", "seq_lengths", "image", "images", "chosen", "rejected", "conversations",
    ]

    /// The columns that rows of any kind read.
    package static let columns = Set(allCases.flatMap(\.columns))

    /// The columns that rows of this kind read.
    var columns: [String] {
        switch self {
        case .text: ["text"]
        case .tokens: ["tokens"]
        case .promptCompletion: ["prompt", "completion"]
        case .chatCompletion: ["prompt", "completion"] + Self.chatColumns
        case .messages: ["messages"] + Self.chatColumns
        case .pair: ["prompt", "chosen", "rejected"] + Self.chatColumns
        case .feedback: ["prompt", "completion", "label"] + Self.chatColumns
        }
    }

    /// Whether rows of this kind are rendered by the chat template.
    package var isConversational: Bool { self == .chatCompletion || self == .messages }

    /// The kind in words, for messages.
    package var name: String {
        switch self {
        case .text: "text"
        case .promptCompletion: "prompt and completion"
        case .chatCompletion: "prompt and completion messages"
        case .messages: "messages"
        case .tokens: "tokens"
        case .pair: "prompt, chosen and rejected"
        case .feedback: "prompt, completion and label"
        }
    }
}
