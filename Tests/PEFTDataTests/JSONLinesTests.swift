import Foundation
import PEFTData
import TestSupport
import Testing

/// Reading rows from a file: line ends, blank lines, encodings, and what is no row.
@Suite struct JSONLinesTests {
    private let row = #"{"tokens": [1, 2]}"#

    @Test(arguments: ["\n", "\r\n"]) func rowsEndAtLineEnds(lineEnd: String) throws {
        let text = [row, #"{"tokens": [3, 4, 5]}"#, ""].joined(separator: lineEnd)
        let dataset = try dataset(text)
        #expect(dataset.sequences.map(\.tokens) == [[1, 2], [3, 4, 5]])
        #expect(dataset.sequences.map(\.row) == [0, 1])
    }

    @Test func theLastLineNeedsNoLineEnd() throws {
        #expect(try dataset(row).sequences.count == 1)
    }

    @Test func blankLinesAndTheByteOrderMarkAreSkipped() throws {
        let dataset = try dataset("\u{FEFF}\n \t\r\n\(row)\n\n\n\(row)\n  ")
        #expect(dataset.sequences.map(\.row) == [0, 1])
    }

    @Test func errorsCountBlankLines() throws {
        #expect(
            try errorText("\u{FEFF}\n\(row)\r\n\n7\n")
                == "rows.jsonl:4: expected a JSON object, found an integer; write one object a line "
                + "(JSON lines)")
    }

    @Test func theFirstErrorOfTheFileIsTold() throws {
        var lines = Array(repeating: row, count: 5000)
        for line in [1000, 1001, 2000, 4999] { lines[line] = "[]" }
        let text = try errorText(lines.joined(separator: "\n"))
        #expect(text.hasPrefix("rows.jsonl:1001: expected a JSON object, found an array"))
    }

    @Test(arguments: ["", "\n", " \r\n\n", "\u{FEFF}"]) func noRowsAreAnError(text: String) throws {
        #expect(
            try errorText(text)
                == "rows.jsonl: expected at least one row (one JSON object a line), found none")
    }

    @Test func brokenJSONNamesTheColumn() throws {
        let text = try errorText("\(row)\n{\"tokens\": [1, 2\n")
        #expect(
            text
                == "rows.jsonl:2: invalid JSON at column 17: expected \",\" or \"]\", found the end of "
                + "the text; each line must be one whole JSON object")
    }

    @Test func invalidUTF8NamesLineAndColumn() throws {
        let bytes = Data("\(row)\n{\"text\": \"a".utf8) + [0xFF] + Data("\"}".utf8)
        let text = try errorText(bytes)
        #expect(
            text
                == "rows.jsonl:2: invalid JSON at column 12: expected valid UTF-8, found the byte 0xFF; "
                + "each line must be one whole JSON object")
    }

    @Test func otherEncodingsAreNamed() throws {
        #expect(
            try errorText(Data([0xFF, 0xFE, 0x7B, 0]))
                == "rows.jsonl: expected UTF-8, found a UTF-16 byte order mark; save the file as UTF-8"
        )
    }

    @Test func aMissingFileAndAFolderAreNamed() throws {
        let folder = try Checkout.temporaryFolder()
        defer { try? FileManager.default.removeItem(at: folder) }
        let missing = folder.appending(path: "rows.jsonl")
        #expect(
            throws: DatasetError(
                file: missing.path, line: nil,
                problem: .unreadable(reason: "there is no such file"))
        ) { try TokenDataset.load(missing, tokenizer: nil) }
        #expect(
            throws: DatasetError(
                file: folder.path, line: nil,
                problem: .unreadable(reason: "it is a folder; name the file"))
        ) { try TokenDataset.load(folder, tokenizer: nil) }
        #expect(
            DatasetError(file: "a.jsonl", line: nil, problem: .unreadable(reason: "why"))
                .description == "a.jsonl: cannot be read: why")
    }
}
