/// What can be wrong with a dataset or one of its rows.
public enum DatasetProblem: Error, Hashable, Sendable {
    /// The file cannot be read.
    case unreadable(reason: String)
    /// The file is in UTF-16.
    case notUTF8
    /// The file has no rows.
    case noRows
    /// The line is not JSON; the column counts characters from 1.
    case invalidJSON(column: Int, expected: String, found: String)
    /// A record of comma-separated values is malformed.
    case invalidCSV(reason: String)
    /// The file is not in Parquet, or damaged.
    case invalidParquet(reason: String)
    /// The library that reads Parquet cannot be loaded.
    case parquetUnavailable(reason: String)
    /// A column that the row needs has values that no text can tell.
    case unreadableColumn(UnreadableColumn)
    /// What is kept out of memory cannot be written.
    case unwritable(folder: String, reason: String)
    /// The row is some other JSON value.
    case notAnObject(found: String)
    /// No kind of row has these columns; maybe one is misspelt.
    case unknownKind(columns: [String], suggestion: NameSuggestion?)
    /// The columns belong to several kinds of rows.
    case ambiguousKind(columns: [String])
    /// A prompt without completion, or the reverse.
    case missingColumn(String, present: String)
    /// A column that rows for this loss must have.
    case columnNeeded(String, kind: String)
    /// A column that other trainers use to change what is learned.
    case unsupportedColumn(String)
    /// A column that rows of this kind do not use.
    case unusedColumn(String, kind: String)
    /// A column that looks like a misspelt one.
    case misspeltColumn(NameSuggestion)
    /// A value of another type than its place wants.
    case wrongType(path: String, expected: String, found: String)
    /// A list that must not be empty.
    case emptyList(path: String)
    /// A message that says nothing.
    case messageWithoutContent(path: String)
    /// A number that is no token id.
    case invalidToken(index: Int, found: Int)
    /// The row must be tokenized, but the model has no tokenizer.
    case tokenizerMissing(kind: String)
    /// The row is a conversation, but the tokenizer has no chat template.
    case chatTemplateMissing
    /// Text shall end in a token that the tokenizer does not name.
    case eosTokenMissing
    /// The tokenizer refused the text.
    case tokenizerFailed(reason: String)
    /// The chat template cannot be read, or refuses the conversation; the line is the template's.
    case chatTemplateFailed(line: Int?, reason: String)
    /// An option that needs another kind of row.
    case optionNeedsOtherRows(option: String, needed: String, kind: String)
    /// The length limit is below 1.
    case maxLengthBelowOne(Int)
    /// The conversation up to an assistant turn is not how the whole conversation begins.
    case turnIsNotAppended(turn: Int)
    /// The row has more tokens than allowed; `numRows` of the file's rows have.
    case tooLong(length: Int, maxLength: Int, numRows: Int, longest: Int)
    /// No token of the row is learned.
    case noTargets(NoTargetsReason)
}

/// A name that was found, and the known one that it resembles.
public struct NameSuggestion: Hashable, Sendable {
    /// The name in the file.
    public let found: String
    /// The name that may have been meant.
    public let known: String

    /// Makes a suggestion.
    public init(found: String, known: String) {
        self.found = found
        self.known = known
    }
}

/// Why no token of a row is learned.
public enum NoTargetsReason: Hashable, Sendable {
    /// Fewer than two tokens: the first is predicted from nothing.
    case tooShort(length: Int)
    /// The completion adds no token to the prompt.
    case emptyCompletion
    /// The conversation has no assistant turn.
    case noAssistantTurn
    /// The cut removed what was to be learned.
    case truncated(maxLength: Int, mode: TruncationMode)
}
