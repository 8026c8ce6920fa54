import PEFTData
public import PEFTTokenizers

/// A row as the model sees it: the text in pieces, each learned or only read.
public struct MaskedSample: Sendable, Equatable {
    /// Neighbouring tokens that are all learned or all not.
    public struct Piece: Sendable, Equatable {
        /// The text, special tokens included; ids where there is no tokenizer.
        public let text: String
        /// Whether its loss counts.
        public let isLearned: Bool

        /// Makes a piece.
        public init(text: String, isLearned: Bool) {
            self.text = text
            self.isLearned = isLearned
        }
    }

    /// The row's number in its file, from 1.
    public let row: Int
    /// The row in order.
    public let pieces: [Piece]

    /// Makes a sample of its pieces.
    public init(row: Int, pieces: [Piece]) {
        self.row = row
        self.pieces = pieces
    }

    /// Takes a row apart.
    ///
    /// - Throws: `TokenizerError` for an id that the tokenizer does not have.
    init(_ sequence: TokenSequence, tokenizer: Tokenizer?) throws {
        var runs: [(tokens: [Int], isLearned: Bool)] = []
        for (token, isLearned) in zip(sequence.tokens, sequence.isTarget) {
            if runs.last?.isLearned == isLearned {
                runs[runs.count - 1].tokens.append(Int(token))
            } else {
                runs.append(([Int(token)], isLearned))
            }
        }
        self.init(
            row: sequence.row + 1,
            pieces: try runs.map { run in
                let text =
                    try tokenizer?.decode(run.tokens)
                    ?? run.tokens.map(String.init).joined(separator: " ")
                return Piece(text: text, isLearned: run.isLearned)
            })
    }

    /// The values as JSON, with these names in snake_case.
    public var json: JSONObject {
        JSONObject([
            ("row", .int(row)),
            (
                "pieces",
                .array(
                    pieces.map { piece in
                        .object(
                            JSONObject([
                                ("text", .string(piece.text)),
                                ("is_learned", .bool(piece.isLearned)),
                            ]))
                    })
            ),
        ])
    }
}
