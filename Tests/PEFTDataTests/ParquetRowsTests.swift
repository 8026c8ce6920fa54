import Foundation
import PEFTData
import PEFTTokenizers
import TestSupport
import Testing

/// Rows in Parquet are those of a JSON lines file, which Python's libraries have made beside each; and what is refused.
@Suite struct ParquetRowsTests {
    private static let twins = [
        "messages-v1-snappy", "messages-v2-zstd", "messages-v2-plain", "prompts-gzip",
        "pairs-brotli", "feedback-lz4", "tokens-delta", "types", "types-groups", "unused",
        "unused-no-statistics", "hub",
    ]

    private func url(_ name: String) -> URL { Checkout.fixture("parquet_rows/\(name)") }

    /// Rows are rendered with all of their members.
    private func options(_ name: String = "") -> EncodingOptions {
        var options = EncodingOptions(
            chatTemplate:
                "{% if tools %}{{ tools | tojson }}{% endif %}{% for message in messages %}"
                + "{{ message | tojson }}\n{% endfor %}{% if maps is defined %}{{ maps | tojson }}{{ double }}{% endif %}"
        )
        options.use =
            name.hasPrefix("pairs") ? .pairs : name.hasPrefix("feedback") ? .feedback : .examples
        return options
    }

    private func load(_ url: URL, _ options: EncodingOptions) throws -> TokenDataset {
        let tokenizer = try Tokenizer.load(folder: Checkout.fixture("data/tokenizer"))
        return try TokenDataset.load(url, tokenizer: tokenizer, options: options)
    }

    /// The error of reading a file, its folder cut off; "no error" if there is none.
    private func errorText(_ url: URL, _ options: EncodingOptions = EncodingOptions()) throws
        -> String
    {
        do {
            _ = try load(url, options)
            return "no error"
        } catch let error as DatasetError {
            return DatasetError(
                file: URL(filePath: error.file).lastPathComponent, line: error.line,
                problem: error.problem
            ).description
        }
    }

    /// A file of these bytes is read as Parquet, and then removed.
    private func errorText(ofBytes bytes: Data) throws -> String {
        let folder = try Checkout.temporaryFolder()
        defer { try? FileManager.default.removeItem(at: folder) }
        let url = folder.appending(path: "rows.parquet")
        try bytes.write(to: url)
        return try errorText(url)
    }

    // MARK: - Rows

    @Test(arguments: twins, [1, 3, 4096])
    func rowsAreThoseOfJSONLines(name: String, maxRows: Int) throws {
        let rows = try rowValues(of: url(name + ".parquet"), inPartsOf: maxRows)
        #expect(try rows == rowValues(of: url(name + ".jsonl")).map(Self.withPresenceOfOthers))
    }

    /// A row as Parquet gives it: of columns that no row reads it only says that they are not null.
    private static func withPresenceOfOthers(_ row: JSONValue) -> JSONValue {
        let columns = row.objectValue ?? [:]
        return .object(
            JSONObject(
                columns.map { name, value in
                    let isRead = RowKind.columns.contains(name) || value.isNull
                    return (name, isRead ? value : .bool(true))
                }))
    }

    @Test(arguments: twins) func encodedRowsAreThoseOfJSONLines(name: String) throws {
        var options = options(name)
        let rows = try load(url(name + ".parquet"), options)
        #expect(try rows == load(url(name + ".jsonl"), options))
        let folder = try Checkout.temporaryFolder()
        defer { try? FileManager.default.removeItem(at: folder) }
        options.streamingFolder = folder.path
        #expect(try rows == load(url(name + ".parquet"), options))
    }

    /// More rows than a part has, in row groups that do not divide it.
    @Test func longFilesAreReadPartByPart() throws {
        var sizes: [Int] = []
        try RowFormat.parquet.open(url("long.parquet")).forEachPart(ofAtMost: .max) {
            sizes.append($0.lines.count)
        }
        #expect(sizes == [4096, 904])
        let rows = try load(url("long.parquet"), options()).sequences
        #expect(
            rows.map(\.tokens)
                == (0..<5000).map { row in [97, 89, 7].map { Int32(row % $0) } })
        #expect(rows.map(\.row) == Array(0..<5000))
    }

    @Test func columnsThatAreNotUsedAreCounted() throws {
        for name in ["unused.parquet", "unused-no-statistics.parquet"] {
            #expect(
                try load(url(name), options()).audit.ignoredColumns == [
                    "id": 4, "bytes": 3, "when": 1, "price": 2, "nested": 2, "lists": 3,
                ])
        }
        #expect(
            try load(url("decimal-label.parquet"), options()).audit.ignoredColumns == ["label": 1])
    }

    // MARK: - What is refused

    @Test(arguments: [
        (
            "zero-rows.parquet",
            "zero-rows.parquet: expected at least one row (one JSON object a line), found none"
        ),
        (
            "no-groups.parquet",
            "no-groups.parquet: expected at least one row (one JSON object a line), found none"
        ),
        (
            "moments.parquet",
            "row 1 of moments.parquet: text: \(expected) timestamp[us, tz=UTC]; \(remedy)"
        ),
        (
            "nested-moments.parquet",
            "row 1 of nested-moments.parquet: messages[].time: \(expected) timestamp[ms]; \(remedy)"
        ),
        ("binary.parquet", "row 1 of binary.parquet: text: \(expected) binary; \(remedy)"),
        (
            "map-of-numbers.parquet",
            "row 1 of map-of-numbers.parquet: chat_template_kwargs: \(expected) "
                + "map<int32, string ('chat_template_kwargs')>; \(remedy)"
        ),
        (
            "not-utf8.parquet",
            "row 2 of not-utf8.parquet: cannot be read as Parquet: text: expected UTF-8, found "
                + "other bytes"
        ),
        (
            "twice.parquet",
            "twice.parquet: cannot be read as Parquet: two columns are named \"text\""
        ),
        (
            "no-role.parquet",
            "row 2 of no-role.parquet: messages[1].role: expected a string, found null"
        ),
        ("none.parquet", "none.parquet: cannot be read: there is no such file"),
    ])
    func filesAreRefused(name: String, message: String) throws {
        #expect(try errorText(url(name), options()) == message)
    }

    private static let expected =
        "expected text, numbers, true or false, or lists, structs and maps of these, found the type"
    private static let remedy = "write the column in another type"

    /// The messages of rows are those of JSON lines, the place apart.
    @Test func rowsAreRefusedAsThoseOfJSONLines() throws {
        var options = options()
        options.maxLength = 20
        let parquet = try errorText(url("messages-v2-zstd.parquet"), options)
        let json = try errorText(url("messages-v2-zstd.jsonl"), options)
        let place = "messages-v2-zstd.jsonl:1: "
        #expect(json.hasPrefix(place))
        #expect(
            parquet == "row 1 of messages-v2-zstd.parquet: " + json.dropFirst(place.count))
    }

    @Test func aFileCutAnywhereIsRefused() throws {
        let bytes = try Data(contentsOf: url("checked.parquet"))
        #expect(try errorText(ofBytes: bytes) == "no error")
        for length in 0..<bytes.count {
            let message = try errorText(ofBytes: bytes.prefix(length))
            #expect(
                message.hasPrefix("rows.parquet: cannot be read as Parquet: "),
                "\(length) bytes: \(message)")
        }
    }

    @Test func otherFilesAreRefused() throws {
        let message = try errorText(ofBytes: Data("{\"text\": \"hello there\"}\n".utf8))
        #expect(message.hasPrefix("rows.parquet: cannot be read as Parquet: Parquet magic bytes"))
    }

    /// Pages may hold checksums of their bytes.
    @Test func damagedPagesAreRefused() throws {
        var bytes = try Data(contentsOf: url("checked.parquet"))
        // A text of a page, after its length.
        let text = try #require(bytes.range(of: Data([5, 0, 0, 0]) + Data("a b c".utf8)))
        bytes[text.upperBound - 1] ^= 1
        #expect(try errorText(ofBytes: bytes).contains("CRC checksum"))
    }

    @Test func aMissingLibraryIsNamed() {
        let error = DatasetError(
            file: "a.parquet", line: nil, problem: .parquetUnavailable(reason: "why"))
        #expect(
            error.description
                == "a.parquet: Parquet is read by libPEFTParquet.so, which cannot be loaded (why); "
                + "put it beside the program, as the build does, or write the rows as JSON lines")
    }
}
