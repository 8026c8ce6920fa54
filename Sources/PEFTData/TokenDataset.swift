/// The encoded rows of a dataset, in the order of the file, and what they are like.
public struct TokenDataset: Sendable, Equatable {
    /// The rows, in the order of the file.
    public let sequences: [TokenSequence]
    /// Counts over the rows, to be shown before training.
    public let audit: DatasetAudit

    /// Makes a dataset of sequences that were encoded before.
    ///
    /// - Parameters:
    ///   - sequences: the rows, in order.
    ///   - eosTokenID: the token that ends a text, for the audit; nil if it is not known.
    public init(_ sequences: [TokenSequence], eosTokenID: Int32? = nil) {
        self.init(
            sequences: sequences,
            audit: DatasetAudit(of: sequences, eosTokenID: eosTokenID))
    }

    package init(sequences: [TokenSequence], audit: DatasetAudit) {
        self.sequences = sequences
        self.audit = audit
    }

    /// The rows without what is beyond a length.
    package func cut(to maxLength: Int) -> TokenDataset {
        TokenDataset(
            sequences.map { row in
                TokenSequence(
                    tokens: Array(row.tokens.prefix(maxLength)),
                    isTarget: Array(row.isTarget.prefix(maxLength)), row: row.row)
            })
    }
}
