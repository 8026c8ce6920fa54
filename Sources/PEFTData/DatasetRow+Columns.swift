package import PEFTTokenizers

extension DatasetRow {
    /// Reads a row of a JSON lines file; a column that is null counts as missing.
    ///
    /// - Parameters:
    ///   - value: the line's value.
    ///   - use: what the rows are for.
    ///   - ignoresExtraColumns: see `EncodingOptions`.
    ///   - unreadable: columns whose values the file's format cannot tell, and what is in the way.
    /// - Returns: the row, and the names of the columns that it does not use.
    /// - Throws: the first problem with the columns or their values.
    package static func parse(
        _ value: JSONValue, for use: RowUse = .examples, ignoresExtraColumns: Bool,
        unreadable: [String: UnreadableColumn] = [:]
    ) throws(DatasetProblem) -> (row: DatasetRow, ignored: [String]) {
        guard case .object(let object) = value else {
            throw .notAnObject(found: value.kindDescription)
        }
        let columns = JSONObject(object.lazy.filter { !$0.value.isNull }.map { ($0.key, $0.value) })
        let kind = try kind(of: columns, for: use)
        let used = kind.columns
        let ignored = columns.keys.filter { !used.contains($0) }
        if !ignoresExtraColumns {
            for column in ignored { try check(extraColumn: column, of: kind, in: columns) }
        }
        for column in columns.keys where used.contains(column) {
            if let reason = unreadable[column] { throw .unreadableColumn(reason) }
        }
        return (try read(kind, from: columns), ignored)
    }

    private static func kind(
        of columns: JSONObject, for use: RowUse
    ) throws(DatasetProblem) -> RowKind {
        switch use {
        case .examples: return try kind(of: columns)
        case .pairs: return try require(["prompt", "chosen", "rejected"], .pair, in: columns)
        case .feedback:
            return try require(["prompt", "completion", "label"], .feedback, in: columns)
        }
    }

    private static func require(
        _ names: [String], _ kind: RowKind, in columns: JSONObject
    ) throws(DatasetProblem) -> RowKind {
        let missing = names.filter { columns[$0] == nil }
        guard let first = missing.first else { return kind }
        if let names = suggestion(among: missing, for: columns.keys) {
            throw .misspeltColumn(names)
        }
        throw .columnNeeded(first, kind: kind.name)
    }

    private static func kind(of columns: JSONObject) throws(DatasetProblem) -> RowKind {
        let defining = RowKind.definingColumns.filter { columns[$0] != nil }
        switch defining {
        case ["text"]: return .text
        case ["messages"]: return .messages
        case ["tokens"]: return .tokens
        case ["prompt", "completion"]:
            return columns["prompt"]?.arrayValue == nil ? .promptCompletion : .chatCompletion
        case ["prompt"]: throw missing("completion", beside: "prompt", in: columns)
        case ["completion"]: throw missing("prompt", beside: "completion", in: columns)
        case []:
            for column in columns.keys where RowKind.unsupportedColumns.contains(column) {
                throw .unsupportedColumn(column)
            }
            throw .unknownKind(
                columns: columns.keys,
                suggestion: suggestion(among: RowKind.definingColumns, for: columns.keys))
        default: throw .ambiguousKind(columns: defining)
        }
    }

    private static func missing(
        _ column: String, beside present: String, in columns: JSONObject
    ) -> DatasetProblem {
        let others = columns.keys.filter { $0 != present }
        if let names = suggestion(among: [column], for: others) { return .misspeltColumn(names) }
        return .missingColumn(column, present: present)
    }

    private static func suggestion(among known: [String], for found: [String]) -> NameSuggestion? {
        for name in found {
            if let near = nearestName(to: name, among: known) {
                return NameSuggestion(found: name, known: near)
            }
        }
        return nil
    }

    private static func check(
        extraColumn column: String, of kind: RowKind, in columns: JSONObject
    ) throws(DatasetProblem) {
        if RowKind.unsupportedColumns.contains(column), kind != .pair {
            throw .unsupportedColumn(column)
        }
        if RowKind.chatColumns.contains(column) {
            throw .unusedColumn(column, kind: kind.name)
        }
        guard kind.isConversational else { return }
        let missing = RowKind.chatColumns.filter { columns[$0] == nil }
        if let known = nearestName(to: column, among: missing) {
            throw .misspeltColumn(NameSuggestion(found: column, known: known))
        }
    }
}
