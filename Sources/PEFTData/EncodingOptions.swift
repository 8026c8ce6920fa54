/// What happens to a row with more tokens than allowed; raw values are the configuration's.
public enum TruncationMode: String, Sendable, Hashable, CaseIterable, Codable {
    /// The dataset is refused: nothing is cut without being asked for.
    case error
    /// The row's first tokens are kept.
    case keepStart = "keep_start"
    /// The row's last tokens are kept.
    case keepEnd = "keep_end"
}

/// What rows are for.
public enum RowUse: Sendable, Hashable {
    /// Texts to learn.
    case examples
    /// A better and a worse completion of a prompt.
    case pairs
    /// A completion of a prompt, and whether it is good.
    case feedback
}

/// How rows become tokens, and which tokens are learned.
///
/// Names and meanings are those of TRL's `SFTConfig`, but for the defaults of `maxLength` (no limit)
/// and `truncationMode` (TRL cuts silently).
public struct EncodingOptions: Sendable, Hashable {
    /// The most tokens in a row, at least 1; nil means no limit.
    public var maxLength: Int?
    /// What happens to longer rows.
    public var truncationMode: TruncationMode
    /// Whether only the completion is learned; nil means yes in rows of prompt and completion.
    ///
    /// True is an error for rows of any other kind: they have no completion.
    public var completionOnlyLoss: Bool?
    /// Whether only what the assistant says is learned, its end-of-turn token included.
    ///
    /// True is an error for rows without messages.
    public var assistantOnlyLoss: Bool
    /// Whether text and completions end in the end-of-sequence token, added where it is missing.
    ///
    /// As in TRL this holds for strings only: a chat template ends its turns itself. Training wants it
    /// on, scoring a text as it is wants it off.
    public var appendsEOS: Bool
    /// The chat template to use in place of the tokenizer's, in Jinja; nil means the tokenizer's.
    public var chatTemplate: String?
    /// Whether columns that mean something elsewhere, or look misspelt, are ignored like all others.
    ///
    /// TRL's users expect that a dataset's further columns (an id, a source) do no harm, so those are
    /// ignored, and counted in the audit. But a column that would change what is learned (`labels`,
    /// `images`, `tools` beside `text`) or is one letter away from a name that the row lacks
    /// (`tool`) is an error, unless this is set.
    public var ignoresExtraColumns: Bool
    /// What rows are for; those of pairs and feedback learn completions only.
    public var use = RowUse.examples
    /// On whose disk encoded rows are kept, so that they take no memory until they are used; nil for memory.
    public var streamingFolder: String?

    /// Makes options.
    public init(
        maxLength: Int? = nil,
        truncationMode: TruncationMode = .error,
        completionOnlyLoss: Bool? = nil,
        assistantOnlyLoss: Bool = false,
        appendsEOS: Bool = true,
        chatTemplate: String? = nil,
        ignoresExtraColumns: Bool = false
    ) {
        self.maxLength = maxLength
        self.truncationMode = truncationMode
        self.completionOnlyLoss = completionOnlyLoss
        self.assistantOnlyLoss = assistantOnlyLoss
        self.appendsEOS = appendsEOS
        self.chatTemplate = chatTemplate
        self.ignoresExtraColumns = ignoresExtraColumns
    }
}
