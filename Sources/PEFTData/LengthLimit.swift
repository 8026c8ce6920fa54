/// The most tokens that a row may have, and what happens to longer ones.
struct LengthLimit {
    /// The limit; nil means none.
    let maxLength: Int?
    /// What happens to longer rows.
    let mode: TruncationMode

    /// Whether a row of this length is too long.
    func exceeded(by length: Int) -> Bool { maxLength.map { length > $0 } ?? false }

    /// Refuses a limit that no row can keep.
    func check(of file: String) throws(DatasetError) {
        guard let maxLength, maxLength < 1 else { return }
        throw DatasetError(file: file, line: nil, problem: .maxLengthBelowOne(maxLength))
    }

    /// Refuses a file with rows that are too long, unless they shall be cut.
    func check(_ rows: TooLongRows, of file: String) throws(DatasetError) {
        guard mode == .error, let maxLength, let first = rows.first else { return }
        throw DatasetError(
            file: file, line: first.line,
            problem: .tooLong(
                length: first.length, maxLength: maxLength, numRows: rows.count,
                longest: rows.longest))
    }

    /// Cuts a row, if it is too long.
    ///
    /// - Throws: `noTargets`, if nothing that is learned is left.
    func apply(
        to encoded: RowEncoder.EncodedRow
    ) throws(DatasetProblem) -> RowEncoder.EncodedRow {
        guard let maxLength, encoded.tokens.count > maxLength else { return encoded }
        var cut = encoded
        switch mode {
        case .error: break
        case .keepStart:
            cut.tokens = Array(cut.tokens.prefix(maxLength))
            cut.isTarget = Array(cut.isTarget.prefix(maxLength))
        case .keepEnd:
            cut.tokens = Array(cut.tokens.suffix(maxLength))
            cut.isTarget = Array(cut.isTarget.suffix(maxLength))
        }
        guard cut.isTarget.dropFirst().contains(true) else {
            throw .noTargets(.truncated(maxLength: maxLength, mode: mode))
        }
        return cut
    }
}

/// The rows of a file that are longer than allowed.
struct TooLongRows {
    /// The first one: its line, and its tokens.
    private(set) var first: (line: Int, length: Int)?
    /// Their number.
    private(set) var count = 0
    /// The tokens of the longest.
    private(set) var longest = 0

    /// Counts a row.
    mutating func add(length: Int, line: Int) {
        if first == nil { first = (line, length) }
        count += 1
        longest = max(longest, length)
    }
}
