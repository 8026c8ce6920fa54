/// The encoded rows of a dataset, in the order of the file, and what they are like.
public struct TokenDataset: Sendable, Equatable {
    /// The rows, in the order of the file.
    public let sequences: TokenSequences
    /// Counts over the rows, to be shown before training.
    public let audit: DatasetAudit
    /// The datasets that are drawn from by weight; nil where every row is taken once an epoch.
    package let mixture: [MixturePart]?
    /// Rows that make one element and stay together: 2 where a row of the file is a pair.
    package let rowsPerElement: Int

    /// Makes a dataset of sequences that were encoded before.
    ///
    /// - Parameters:
    ///   - sequences: the rows, in order.
    ///   - eosTokenID: the token that ends a text, for the audit; nil if it is not known.
    public init(_ sequences: [TokenSequence], eosTokenID: Int32? = nil) {
        self.init(
            sequences: TokenSequences(sequences),
            audit: DatasetAudit(of: sequences, eosTokenID: eosTokenID))
    }

    package init(
        sequences: TokenSequences, audit: DatasetAudit, mixture: [MixturePart]? = nil,
        rowsPerElement: Int = 1
    ) {
        self.sequences = sequences
        self.audit = audit
        self.mixture = mixture
        self.rowsPerElement = rowsPerElement
    }

    /// Several datasets as one: each row once an epoch, or drawn by the datasets' weights.
    ///
    /// - Parameters:
    ///   - parts: at least one.
    ///   - weights: one a part, above 0; nil to take every row once.
    /// - Returns: the only part itself, if there is one.
    /// - Precondition: parts of one kind.
    package static func joined(_ parts: [TokenDataset], weights: [Double]?) -> TokenDataset {
        precondition(!parts.isEmpty, "no dataset")
        if parts.count == 1 { return parts[0] }
        var start = 0
        let mixture = weights.map { weights in
            zip(parts, weights).map { part, weight in
                defer { start += part.sequences.count }
                return MixturePart(
                    range: start..<start + part.sequences.count, weight: weight)
            }
        }
        return TokenDataset(
            sequences: TokenSequences(joining: parts.map(\.sequences)),
            audit: parts.dropFirst().reduce(parts[0].audit) { $0 + $1.audit }, mixture: mixture,
            rowsPerElement: parts[0].rowsPerElement)
    }

    /// The rows without what is beyond a length.
    package func cut(to maxLength: Int) -> TokenDataset {
        let rows = sequences.map { row in
            TokenSequence(
                tokens: Array(row.tokens.prefix(maxLength)),
                isTarget: Array(row.isTarget.prefix(maxLength)), row: row.row,
                isDesirable: row.isDesirable)
        }
        return TokenDataset(
            sequences: TokenSequences(rows), audit: DatasetAudit(of: rows, eosTokenID: nil),
            mixture: mixture, rowsPerElement: rowsPerElement)
    }
}

/// One dataset of a mixture.
package struct MixturePart: Sendable, Hashable {
    /// Its rows among those of all.
    package let range: Range<Int>
    /// The share of draws that it gets, beside the other weights.
    package let weight: Double
}
