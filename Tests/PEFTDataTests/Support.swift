import Foundation
import PEFTData
import PEFTTokenizers
import TestSupport

/// Rows that tests write to a file and read back.
struct RowsFile {
    let url: URL

    /// Writes bytes to `rows.jsonl` in a new folder, which `read` removes.
    init(_ bytes: Data) throws {
        url = try Checkout.temporaryFolder().appending(path: "rows.jsonl")
        try bytes.write(to: url)
    }

    /// Reads the file as a dataset, and removes it.
    func read(
        tokenizer: Tokenizer? = nil, options: EncodingOptions = EncodingOptions()
    ) throws -> TokenDataset {
        defer { try? FileManager.default.removeItem(at: url.deletingLastPathComponent()) }
        return try TokenDataset.load(url, tokenizer: tokenizer, options: options)
    }
}

/// Reads a dataset from the text of its file.
func dataset(
    _ text: String, tokenizer: Tokenizer? = nil, options: EncodingOptions = EncodingOptions()
) throws -> TokenDataset {
    try RowsFile(Data(text.utf8)).read(tokenizer: tokenizer, options: options)
}

/// The error of reading a dataset from bytes, its folder cut off; "no error" if there is none.
func errorText(
    _ bytes: Data, tokenizer: Tokenizer? = nil, options: EncodingOptions = EncodingOptions()
) throws -> String {
    do {
        _ = try RowsFile(bytes).read(tokenizer: tokenizer, options: options)
        return "no error"
    } catch let error as DatasetError {
        return DatasetError(
            file: URL(filePath: error.file).lastPathComponent, line: error.line,
            problem: error.problem
        ).description
    }
}

/// The error of reading a dataset from the text of its file.
func errorText(
    _ text: String, tokenizer: Tokenizer? = nil, options: EncodingOptions = EncodingOptions()
) throws -> String {
    try errorText(Data(text.utf8), tokenizer: tokenizer, options: options)
}

/// The values of a file's rows, before their columns are looked at.
func rowValues(of url: URL, inPartsOf maxRows: Int = .max) throws -> [JSONValue] {
    var values: [Result<JSONValue, DatasetProblem>] = []
    try RowFormat(of: url.path).open(url).forEachPart(ofAtMost: maxRows) { part in
        for line in part.lines {
            values.append(
                Result { () throws(DatasetProblem) in try part.text.value(of: line) })
        }
    }
    return try values.map { try $0.get() }
}

/// A committed JSON fixture of this test target.
func fixture(_ name: String) throws -> JSONValue {
    try JSONValue(parsing: Data(contentsOf: Checkout.fixture("data/\(name)")))
}

extension JSONValue {
    /// The integers of an array, or nil for any other value.
    var integers: [Int]? {
        guard let values = arrayValue else { return nil }
        let integers = values.compactMap(\.intValue)
        return integers.count == values.count ? integers : nil
    }
}
