/// What a dataset teaches, in numbers: to be read before the training, not after it.
public struct DatasetAudit: Sendable, Equatable {
    /// The number of rows.
    public let numRows: Int
    /// The number of tokens in all rows.
    public let numTokens: Int
    /// The number of tokens whose loss counts.
    public let numTargetTokens: Int
    /// The number of tokens in the longest row.
    public let longestRow: Int
    /// The rows that were cut to the maximum length.
    public package(set) var numTruncatedRows: Int
    /// The rows whose targets hold no end-of-sequence token: they do not teach the model to stop.
    ///
    /// It is nil where no such token is known, as in rows of tokens without a tokenizer.
    public let numRowsWithoutEOSTarget: Int?
    /// The rows where tokens merge across the border of prompt and completion.
    ///
    /// They train on another end of the prompt than the model sees when it is used; end prompts where
    /// a token ends, as before a space.
    public package(set) var numRowsWithPromptEndInsideToken: Int
    /// The columns that were not used, each with the number of rows that have it, by name.
    public package(set) var ignoredColumns: [String: Int]

    /// Counts over sequences.
    package init(of sequences: [TokenSequence], eosTokenID: Int32?) {
        numRows = sequences.count
        numTokens = sequences.reduce(0) { $0 + $1.tokens.count }
        numTargetTokens = sequences.reduce(0) { $0 + $1.numTargetTokens }
        longestRow = sequences.reduce(0) { max($0, $1.tokens.count) }
        numTruncatedRows = 0
        numRowsWithPromptEndInsideToken = 0
        ignoredColumns = [:]
        numRowsWithoutEOSTarget = eosTokenID.map { eos in
            sequences.count { sequence in
                !zip(sequence.tokens, sequence.isTarget).contains { $0 == eos && $1 }
            }
        }
    }

    /// The share of the tokens that only serve as context, 0 to 1.
    public var shareMasked: Double {
        numTokens == 0 ? 0 : 1 - Double(numTargetTokens) / Double(numTokens)
    }
}
