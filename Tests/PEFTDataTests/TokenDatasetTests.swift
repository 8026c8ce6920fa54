import PEFTData
import Testing

/// Rows of tokens from file to sequences: limits, masks, audit, and exact texts of what is refused.
@Suite struct TokenDatasetTests {
    private let three = """
        {"tokens": [1, 2, 3]}
        {"tokens": [4, 5, 6, 7, 8]}
        {"tokens": [9, 10], "id": "x"}
        """

    @Test func inRowsOfTokensAllButTheFirstAreLearned() throws {
        let dataset = try dataset(three)
        #expect(dataset.sequences[0].tokens == [1, 2, 3])
        #expect(dataset.sequences[0].isTarget == [false, true, true])
    }

    @Test func theAuditCounts() throws {
        let audit = try dataset(three).audit
        #expect(audit.numRows == 3)
        #expect(audit.numTokens == 10)
        #expect(audit.numTargetTokens == 7)
        #expect(abs(audit.shareMasked - 0.3) < 1e-12)
        #expect(audit.longestRow == 5)
        #expect(audit.numTruncatedRows == 0)
        #expect(audit.numRowsWithoutEOSTarget == nil)
        #expect(audit.ignoredColumns == ["id": 1])
    }

    @Test func theAuditSeesWhetherRowsTeachToStop() {
        let sequences = [
            TokenSequence(tokens: [1, 2], isTarget: [false, true], row: 0),
            TokenSequence(tokens: [1, 2, 3], isTarget: [false, false, true], row: 1),
            TokenSequence(tokens: [2, 1], isTarget: [false, true], row: 2),
        ]
        #expect(TokenDataset(sequences, eosTokenID: 2).audit.numRowsWithoutEOSTarget == 2)
    }

    @Test func theAuditReadsWell() throws {
        let text = three + "\n" + #"{"tokens": [1, 2], "source": 1, "id": 2}"#
        let audit = try dataset(text, options: .init(maxLength: 3, truncationMode: .keepEnd)).audit
        #expect(audit.description == "4 rows, 10 tokens, 60 % of them learned, longest row 3")
        #expect(
            audit.warnings == [
                "1 of 4 rows were cut to max_length",
                "column 'id' is not used (2 of 4 rows have it)",
                "column 'source' is not used (1 of 4 rows have it)",
            ])
        let sequences = [TokenSequence(tokens: [1, 2], isTarget: [false, true], row: 0)]
        #expect(
            TokenDataset(sequences, eosTokenID: 3).audit.warnings == [
                "1 of 1 rows never learn the end-of-sequence token: the model may not know when to "
                    + "stop"
            ])
        #expect(TokenDataset(sequences, eosTokenID: 2).audit.warnings.isEmpty)
    }

    @Test func rowsThatAreTooLongAreRefusedTogether() throws {
        let remedy =
            "raise max_length to 5, shorten or remove what is longer, or set "
            + "truncation_mode to keep_start or keep_end"
        #expect(
            try errorText(three, options: .init(maxLength: 4))
                == "rows.jsonl:2: 5 tokens, max_length is 4; \(remedy)")
        #expect(
            try errorText("\n" + three, options: .init(maxLength: 2))
                == "rows.jsonl:2: 3 tokens, max_length is 2 (2 rows are too long, the longest has 5)"
                + "; \(remedy)")
        #expect(try errorText(three, options: .init(maxLength: 5)) == "no error")
    }

    @Test(arguments: [
        (TruncationMode.keepStart, [[1, 2, 3], [4, 5, 6], [9, 10]] as [[Int32]]),
        (.keepEnd, [[1, 2, 3], [6, 7, 8], [9, 10]]),
    ])
    func longRowsAreCutWhereAskedTo(mode: TruncationMode, expected: [[Int32]]) throws {
        let dataset = try dataset(three, options: .init(maxLength: 3, truncationMode: mode))
        #expect(dataset.sequences.map(\.tokens) == expected)
        #expect(dataset.sequences[1].isTarget == [false, true, true])
        #expect(dataset.audit.numTruncatedRows == 1)
    }

    @Test func rowsWithoutTargetsAreRefused() throws {
        let reason = "no token of this row is learned: "
        #expect(
            try errorText(#"{"tokens": []}"#)
                == "rows.jsonl:1: \(reason)it has 0 tokens, and the first is never predicted; "
                + "remove the row")
        #expect(
            try errorText(#"{"tokens": [5]}"#)
                == "rows.jsonl:1: \(reason)it has 1 token, and the first is never predicted; "
                + "remove the row")
        #expect(
            try errorText(three, options: .init(maxLength: 1, truncationMode: .keepStart))
                == "rows.jsonl:1: \(reason)keep_start to max_length = 1 cut off all that was to be "
                + "learned; raise max_length, shorten or remove the row, or set truncation_mode to "
                + "keep_end")
    }

    @Test func lossOptionsNeedRowsThatHaveThem() throws {
        #expect(
            try errorText(three, options: .init(assistantOnlyLoss: true))
                == "rows.jsonl:1: assistant_only_loss needs rows of messages, found a row of tokens; "
                + "unset it")
        #expect(
            try errorText(three, options: .init(completionOnlyLoss: true))
                == "rows.jsonl:1: completion_only_loss needs rows of prompt and completion, found a "
                + "row of tokens; unset it")
    }

    @Test func rowsOfTextNeedATokenizer() throws {
        #expect(
            try errorText(#"{"text": "a"}"#)
                == "rows.jsonl:1: a row of text needs a tokenizer, and the model has none; add "
                + #"tokenizer.json to the model, or write rows of {"tokens"}"#)
    }

    @Test func aLimitBelowOneIsRefused() throws {
        #expect(
            try errorText(three, options: .init(maxLength: 0))
                == "rows.jsonl: max_length: expected at least 1, found 0")
    }

    @Test func manyRowsKeepTheirOrder() throws {
        let text = (0..<3000).map { #"{"tokens": [\#($0), \#($0 + 1)]}"# }.joined(separator: "\n")
        let dataset = try dataset(text)
        #expect(dataset.sequences.map { Int($0.tokens[0]) } == Array(0..<3000))
        #expect(dataset.sequences.map(\.row) == Array(0..<3000))
    }
}
