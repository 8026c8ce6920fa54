extension DatasetAudit: CustomStringConvertible {
    /// The counts in one line: "2400 rows, 125904 tokens, 27 % of them learned, longest row 97".
    public var description: String {
        let share = (100 * (1 - shareMasked)).rounded()
        return """
            \(numRows) rows, \(numTokens) tokens, \(Int(share)) % of them learned, longest row \
            \(longestRow)
            """
    }

    /// What a reader of the counts should know before the training; empty if all is well.
    public var warnings: [String] {
        var warnings: [String] = []
        if let count = numRowsWithoutEOSTarget, count > 0 {
            warnings.append(
                """
                \(rows(count)) never learn the end-of-sequence token: the model may not know when to \
                stop
                """)
        }
        if numTruncatedRows > 0 {
            warnings.append("\(rows(numTruncatedRows)) were cut to max_length")
        }
        if numRowsWithPromptEndInsideToken > 0 {
            warnings.append(
                """
                \(rows(numRowsWithPromptEndInsideToken)) have a token across the border of prompt and \
                completion: move the space before the completion into it
                """)
        }
        for (column, count) in ignoredColumns.sorted(by: { $0.key < $1.key }) {
            warnings.append("column '\(column)' is not used (\(count) of \(numRows) rows have it)")
        }
        return warnings
    }

    private func rows(_ count: Int) -> String { "\(count) of \(numRows) rows" }
}
