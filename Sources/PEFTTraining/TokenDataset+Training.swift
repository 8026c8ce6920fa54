import PEFTData
import PEFTLayers

extension TokenDataset {
    /// Refuses tokens that the model's embedding does not have.
    ///
    /// - Throws: ``TrainingError/tokenOutOfRange(token:row:vocabularySize:)`` for the first.
    func requireTokens(below vocabularySize: Int) throws(TrainingError) {
        for sequence in sequences {
            for token in sequence.tokens where !(0..<vocabularySize).contains(Int(token)) {
                throw .tokenOutOfRange(
                    token: Int(token), row: sequence.row, vocabularySize: vocabularySize)
            }
        }
    }

    /// Refuses rows on which an adapter would learn nothing: they do not activate it, or only after their last target.
    ///
    /// - Throws: ``TrainingError/notActivated(row:tokens:)`` for the first.
    func requireActivation(by invocation: InvocationTokens) throws(TrainingError) {
        for sequence in sequences {
            // The token before a target predicts it.
            if let start = invocation.lastStart(in: sequence.tokens),
                sequence.isTarget[(start + 1)...].contains(true)
            {
                continue
            }
            throw .notActivated(row: sequence.row, tokens: invocation.tokens)
        }
    }

    /// The first row with a target, cut to the tokens that the check before step 0 needs.
    ///
    /// Tokens from the one before the first target on: they are enough to connect everything. For an adapter that tokens of the row
    /// activate, from there on.
    func sample(maxTokens: Int, invocation: InvocationTokens? = nil) -> TokenBatch {
        guard let row = sequences.first(where: { $0.numTargetTokens > 0 }),
            let target = row.isTarget.firstIndex(of: true)
        else { return TokenBatch(sequences.prefix(1)) }
        var start = max(0, target - 1)
        var end = start + maxTokens
        if let active = invocation?.lastStart(in: row.tokens),
            let learned = row.isTarget[(active + 1)...].firstIndex(of: true)
        {
            (start, end) = (active, learned + maxTokens)
        }
        let range = start..<min(row.tokens.count, end)
        return TokenBatch([
            TokenSequence(
                tokens: Array(row.tokens[range]), isTarget: Array(row.isTarget[range]),
                row: row.row)
        ])
    }

    /// What the rows teach, for the event that reports it.
    func summary(path: String) -> DatasetSummary {
        var warnings: [String] = []
        if let without = audit.numRowsWithoutEOSTarget, without > 0 {
            warnings.append(
                without == audit.numRows
                    ? Self.neverEnds.description
                    : "in \(without) of \(audit.numRows) rows no target is the end-of-text token")
        }
        if !audit.ignoredColumns.isEmpty {
            let columns = audit.ignoredColumns.keys.sorted().joined(separator: ", ")
            warnings.append("columns that are not used: \(columns)")
        }
        return DatasetSummary(
            path: path, numRows: audit.numRows, numTokens: audit.numTokens,
            numTargetTokens: audit.numTargetTokens, maxRowTokens: audit.longestRow,
            numTruncatedRows: audit.numTruncatedRows, warnings: warnings)
    }

    /// Not an error: rows of a text that goes on are cut on purpose.
    private static let neverEnds = Diagnosis(
        .noEndOfText, at: "the rows",
        "in none of them is the end-of-text token a target, so the model does not learn to stop",
        remedy: "end each row's targets with it, or raise max_length where rows are cut")

    /// A digest of all tokens and targets, the same on every machine.
    var digest: String {
        var hash: UInt64 = 0
        for sequence in sequences {
            var tokens: [Int] = []
            tokens.reserveCapacity(sequence.tokens.count)
            for (token, isTarget) in zip(sequence.tokens, sequence.isTarget) {
                tokens.append(Int(token) << 1 | (isTarget ? 1 : 0))
            }
            hash = StableHash.of(hash, tokens)
        }
        return String(hash, radix: 16)
    }
}
