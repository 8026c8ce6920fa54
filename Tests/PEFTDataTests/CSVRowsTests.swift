import Foundation
import PEFTData
import PEFTTokenizers
import TestSupport
import Testing

/// Files of comma-separated values, by RFC 4180.
@Suite struct CSVRowsTests {
    private func rows(_ text: String) throws -> [JSONValue] {
        let folder = try Checkout.temporaryFolder()
        defer { try? FileManager.default.removeItem(at: folder) }
        let url = folder.appending(path: "rows.csv")
        try Data(text.utf8).write(to: url)
        return try rowValues(of: url)
    }

    private func error(_ text: String) -> String {
        do {
            _ = try rows(text)
            return "no error"
        } catch let error as DatasetError {
            return DatasetError(
                file: URL(filePath: error.file).lastPathComponent, line: error.line,
                problem: error.problem
            ).description
        } catch {
            return "\(error)"
        }
    }

    @Test(arguments: [
        ("text\nhello\n", [#"{"text":"hello"}"#]),
        ("\u{FEFF}text\r\nhello\r\n\r\nyou\r\n", [#"{"text":"hello"}"#, #"{"text":"you"}"#]),
        ("prompt,completion\na,b", [#"{"prompt":"a","completion":"b"}"#]),
        (
            "prompt,completion\n\"a, \"\"b\"\"\",\"two\r\nlines\"\n",
            [
                #"{"prompt":"a, \"b\"","completion":"two\r\nlines"}"#
            ]
        ),
        ("prompt,completion\n,12\n", [#"{"prompt":"","completion":"12"}"#]),
        (
            "tokens,id\n\"[1, 2]\",x\n[3],\n",
            [
                #"{"tokens":[1,2],"id":"x"}"#, #"{"tokens":[3],"id":null}"#,
            ]
        ),
        (
            "prompt,label\na,True\nb,false\n",
            [
                #"{"prompt":"a","label":true}"#, #"{"prompt":"b","label":false}"#,
            ]
        ),
    ])
    func recordsAreRows(text: String, expected: [String]) throws {
        #expect(try rows(text) == expected.map { try JSONValue(parsing: $0) })
    }

    @Test(arguments: [
        ("", "rows.csv: expected at least one row (one JSON object a line), found none"),
        ("text\n", "rows.csv: expected at least one row (one JSON object a line), found none"),
        (
            "text,text\na,b\n",
            "rows.csv:1: not comma-separated values: the header names the column \"text\" twice"
        ),
        (
            "text\n\"a\nb\n",
            "rows.csv:2: not comma-separated values: a quoted field does not end"
        ),
    ])
    func malformedFilesAreRefused(text: String, message: String) {
        #expect(error(text) == message)
    }

    @Test(arguments: [
        ("text,id\na\n", "expected 2 fields as in the header, found 1"),
        ("text,id\na,b,c\n", "expected 2 fields as in the header, found 3"),
        ("text\nsay \"hello\"\n", "a quote within a field; put the field in quotes and double it"),
        ("text\n\"hello\" you\n", "text after the end of a quoted field; double its quotes"),
    ])
    func malformedRecordsAreRefused(text: String, reason: String) {
        #expect(error(text) == "not comma-separated values: " + reason)
    }

    /// A record's number is that of the line in which it begins, in errors too.
    @Test func theDatasetNamesLines() throws {
        let folder = try Checkout.temporaryFolder()
        defer { try? FileManager.default.removeItem(at: folder) }
        let url = folder.appending(path: "rows.csv")
        try Data("tokens,note\n\"[1, 2]\",\"a\nb\"\n\n[],x\n".utf8).write(to: url)
        let error = #expect(throws: DatasetError.self) {
            _ = try TokenDataset.load(url, tokenizer: nil)
        }
        #expect(error?.line == 5)
    }

    @Test func rowsAreThoseOfJSONLines() throws {
        let folder = try Checkout.temporaryFolder()
        defer { try? FileManager.default.removeItem(at: folder) }
        let csv = folder.appending(path: "rows.csv")
        let json = folder.appending(path: "rows.jsonl")
        try Data("tokens\n\"[1, 2, 3]\"\n\"[4, 5]\"\n".utf8).write(to: csv)
        try Data("{\"tokens\": [1, 2, 3]}\n{\"tokens\": [4, 5]}\n".utf8).write(to: json)
        #expect(
            try TokenDataset.load(csv, tokenizer: nil) == TokenDataset.load(json, tokenizer: nil))
    }
}
