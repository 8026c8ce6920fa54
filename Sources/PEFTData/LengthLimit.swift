/// The most tokens that a row may have, and what happens to longer ones.
struct LengthLimit {
    /// The limit; nil means none.
    let maxLength: Int?
    /// What happens to longer rows.
    let mode: TruncationMode

    /// Whether a row of this length is too long.
    func exceeded(by length: Int) -> Bool { maxLength.map { length > $0 } ?? false }

    /// Refuses a file with rows that are too long, unless they shall be cut.
    func check(_ lengths: [Int], of file: any RowFile) throws(DatasetError) {
        if let maxLength, maxLength < 1 {
            throw DatasetError(
                file: file.file, line: nil, problem: .maxLengthBelowOne(maxLength))
        }
        guard mode == .error, let maxLength,
            let first = lengths.firstIndex(where: { $0 > maxLength })
        else { return }
        throw DatasetError(
            file: file.file, line: file.lines[first].number,
            problem: .tooLong(
                length: lengths[first], maxLength: maxLength,
                numRows: lengths.count { $0 > maxLength },
                longest: lengths.reduce(0, max)))
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
