extension DatasetProblem: CustomStringConvertible {
    /// What is wrong, what was expected and found, and what to do.
    public var description: String {
        switch self {
        case .unreadable(let reason): "cannot be read: \(reason)"
        case .notUTF8: "expected UTF-8, found a UTF-16 byte order mark; save the file as UTF-8"
        case .noRows: "expected at least one row (one JSON object a line), found none"
        case .invalidJSON(let column, let expected, let found):
            """
            invalid JSON at column \(column): expected \(expected), found \(found); each line must be \
            one whole JSON object
            """
        case .invalidCSV(let reason):
            "not comma-separated values: \(reason)"
        case .invalidParquet(let reason): "cannot be read as Parquet: \(reason)"
        case .parquetUnavailable(let reason): Self.parquetUnavailable(reason)
        case .unreadableColumn(let column):
            """
            \(column.path): expected text, numbers, true or false, or lists, structs and maps of these, found the type \
            \(column.type); write the column in another type
            """
        case .unwritable(let folder, let reason):
            "encoded rows cannot be kept in a file in \(folder): \(reason); turn dataset_streaming off, or use a disk with room"
        case .notAnObject(let found):
            "expected a JSON object, found \(found); write one object a line (JSON lines)"
        case .unknownKind(let columns, let names): unknownKind(columns, names)
        case .ambiguousKind(let columns):
            """
            expected a row of one kind (\(RowKind.listing)), found \(quoted(columns)) together; \
            keep one
            """
        case .missingColumn(let missing, let present):
            "'\(present)' needs '\(missing)' beside it, which is missing"
        case .columnNeeded(let column, let kind):
            "the column \"\(column)\" is missing; this loss_type learns from rows of \(kind)"
        case .unsupportedColumn(let column): unsupportedColumn(column)
        case .unusedColumn(let column, let kind): unusedColumn(column, kind)
        case .misspeltColumn(let names): misspeltColumn(names)
        case .wrongType(let path, let expected, let found):
            "\(path): expected \(expected), found \(found)"
        case .emptyList(let path): "\(path): expected at least one element, found none"
        case .messageWithoutContent(let path):
            "\(path): expected 'content' or 'tool_calls', found neither"
        case .invalidToken(let index, let found):
            "tokens[\(index)]: expected a token id from 0 to \(Int32.max), found \(found)"
        case .tokenizerMissing(let kind): tokenizerMissing(kind)
        case .chatTemplateMissing: Self.chatTemplateMissingText
        case .eosTokenMissing: Self.eosTokenMissingText
        case .tokenizerFailed(let reason): "the text cannot be tokenized: \(reason)"
        case .chatTemplateFailed(let line, let reason): chatTemplateFailed(line, reason)
        case .optionNeedsOtherRows(let option, let needed, let kind):
            "\(option) needs rows of \(needed), found a row of \(kind); unset it"
        case .maxLengthBelowOne(let length): "max_length: expected at least 1, found \(length)"
        case .turnIsNotAppended(let turn): turnIsNotAppended(turn)
        case .tooLong(let length, let maxLength, let numRows, let longest):
            tooLong(length, maxLength, numRows, longest)
        case .noTargets(let reason): "no token of this row is learned: \(reason)"
        }
    }

    private static let chatTemplateMissingText = """
        a row of messages needs a chat template, and the tokenizer has none; use an instruction \
        model, add chat_template.jinja to the model, or write rows of {"text"}
        """

    private static let eosTokenMissingText = """
        the text must end in the end-of-sequence token, and the tokenizer names none; set eos_token \
        in tokenizer_config.json
        """

    private static func parquetUnavailable(_ reason: String) -> String {
        """
        Parquet is read by \(ParquetLibrary.name), which cannot be loaded (\(reason)); put it beside the program, as the build \
        does, or write the rows as JSON lines
        """
    }

    private func unknownKind(_ columns: [String], _ names: NameSuggestion?) -> String {
        "expected a row with \(RowKind.listing), found "
            + (columns.isEmpty ? "no columns" : "the columns \(quoted(columns))")
            + (names.map { "; did you mean '\($0.known)' by '\($0.found)'?" } ?? "")
    }

    private func unsupportedColumn(_ column: String) -> String {
        let remedy = column == "input_ids" ? "name it 'tokens'" : "remove it"
        return """
            column '\(column)' would change what is learned, but is not supported; \(remedy), or set \
            ignore_extra_columns
            """
    }

    private func unusedColumn(_ column: String, _ kind: String) -> String {
        """
        column '\(column)' has no effect in a row of \(kind); remove it, or set ignore_extra_columns
        """
    }

    private func misspeltColumn(_ names: NameSuggestion) -> String {
        """
        unknown column '\(names.found)'; did you mean '\(names.known)'? Else rename or remove it, or \
        set ignore_extra_columns
        """
    }

    private func tokenizerMissing(_ kind: String) -> String {
        """
        a row of \(kind) needs a tokenizer, and the model has none; add tokenizer.json to the model, \
        or write rows of {"tokens"}
        """
    }

    private func chatTemplateFailed(_ line: Int?, _ reason: String) -> String {
        """
        the chat template\(line.map { ", line \($0)," } ?? "") cannot render this conversation: \
        \(reason); change the row, or use another template
        """
    }

    private func turnIsNotAppended(_ turn: Int) -> String {
        """
        messages[\(turn)]: with the chat template of this model, the conversation before this \
        assistant turn is not how the whole conversation begins, so it is unknown which tokens the \
        assistant says; mark them by {% generation %} in the template, or split the conversation \
        into rows of prompt and completion
        """
    }

    private func tooLong(_ length: Int, _ maxLength: Int, _ numRows: Int, _ longest: Int) -> String
    {
        let others =
            numRows > 1 ? " (\(numRows) rows are too long, the longest has \(longest))" : ""
        return """
            \(length) tokens, max_length is \(maxLength)\(others); raise max_length to \(longest), \
            shorten or remove what is longer, or set truncation_mode to keep_start or keep_end
            """
    }

    private func quoted(_ names: [String]) -> String {
        names.map { "'\($0)'" }.joined(separator: ", ")
    }
}

extension NoTargetsReason: CustomStringConvertible {
    /// The reason, and what to do.
    public var description: String {
        switch self {
        case .tooShort(let length):
            """
            it has \(length) \(length == 1 ? "token" : "tokens"), and the first is never predicted; \
            remove the row
            """
        case .emptyCompletion:
            "the completion adds no token to the prompt; remove the row"
        case .noAssistantTurn:
            "it has no assistant turn, and assistant_only_loss is set; remove the row"
        case .truncated(let maxLength, let mode):
            """
            \(mode.rawValue) to max_length = \(maxLength) cut off all that was to be learned; raise \
            max_length, shorten or remove the row, or set truncation_mode to \
            \(mode == .keepStart ? TruncationMode.keepEnd.rawValue : TruncationMode.keepStart.rawValue)
            """
        }
    }
}
