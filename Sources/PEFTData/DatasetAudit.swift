/// What a dataset teaches, in numbers: to be read before the training, not after it.
public struct DatasetAudit: Sendable, Equatable {
    /// The number of rows.
    public private(set) var numRows = 0
    /// The number of tokens in all rows.
    public private(set) var numTokens = 0
    /// The number of tokens whose loss counts.
    public private(set) var numTargetTokens = 0
    /// The number of tokens in the longest row.
    public private(set) var longestRow = 0
    /// The rows that were cut to the maximum length.
    public package(set) var numTruncatedRows = 0
    /// The rows whose targets hold no end-of-sequence token: they do not teach the model to stop.
    ///
    /// It is nil where no such token is known, as in rows of tokens without a tokenizer.
    public private(set) var numRowsWithoutEOSTarget: Int?
    /// The rows where tokens merge across the border of prompt and completion.
    ///
    /// They train on another end of the prompt than the model sees when it is used; end prompts where
    /// a token ends, as before a space.
    public package(set) var numRowsWithPromptEndInsideToken = 0
    /// The columns that were not used, each with the number of rows that have it, by name.
    public package(set) var ignoredColumns: [String: Int] = [:]

    /// Counts over sequences.
    package init(of sequences: [TokenSequence], eosTokenID: Int32?) {
        numRowsWithoutEOSTarget = eosTokenID == nil ? nil : 0
        for sequence in sequences { add(sequence, eosTokenID: eosTokenID) }
    }

    /// Counts a sequence.
    private mutating func add(_ sequence: TokenSequence, eosTokenID: Int32?) {
        numRows += 1
        numTokens += sequence.tokens.count
        numTargetTokens += sequence.numTargetTokens
        longestRow = max(longestRow, sequence.tokens.count)
        if let eosTokenID,
            !zip(sequence.tokens, sequence.isTarget).contains(where: { $0 == eosTokenID && $1 })
        {
            numRowsWithoutEOSTarget = numRowsWithoutEOSTarget.map { $0 + 1 }
        }
    }

    /// The counts of both.
    package static func + (left: DatasetAudit, right: DatasetAudit) -> DatasetAudit {
        var sum = left
        sum.numRows += right.numRows
        sum.numTokens += right.numTokens
        sum.numTargetTokens += right.numTargetTokens
        sum.longestRow = max(left.longestRow, right.longestRow)
        sum.numTruncatedRows += right.numTruncatedRows
        sum.numRowsWithPromptEndInsideToken += right.numRowsWithPromptEndInsideToken
        sum.ignoredColumns.merge(right.ignoredColumns, uniquingKeysWith: +)
        sum.numRowsWithoutEOSTarget = left.numRowsWithoutEOSTarget.flatMap { first in
            right.numRowsWithoutEOSTarget.map { first + $0 }
        }
        return sum
    }

    /// The share of the tokens that only serve as context, 0 to 1.
    public var shareMasked: Double {
        numTokens == 0 ? 0 : 1 - Double(numTargetTokens) / Double(numTokens)
    }
}
