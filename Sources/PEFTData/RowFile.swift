package import Foundation
package import PEFTTokenizers

/// A file of rows, read in order.
package protocol RowFile {
    /// The file's path, as it was given.
    var file: String { get }
    /// Gives all rows to a function, part after part, in order.
    ///
    /// - Parameters:
    ///   - maxRows: the most rows of a part; a format may give fewer.
    ///   - use: the function; the parts that it is given stay valid after it.
    /// - Throws: a `DatasetError`, if the file cannot be read or has no rows, or what `use` throws.
    func forEachPart(
        ofAtMost maxRows: Int, _ use: (RowPart) throws(DatasetError) -> Void
    ) throws(DatasetError)
}

/// Rows as texts, each parsed in place when it is asked for.
package protocol RowText: Sendable {
    /// Where the rows are.
    var lines: [RowPlace] { get }
    /// Parses one row.
    func value(of line: RowPlace) throws(DatasetProblem) -> JSONValue
}

/// Where a row is in its file.
package struct RowPlace: Sendable, Hashable {
    /// The number of the line in which it begins, from 1, blank ones counted; in a format without lines that of the row.
    package let number: Int
    /// Where its bytes are in the text, the line end excluded.
    package let range: Range<Int>
}

/// Some rows of a file, one after another.
package struct RowPart: Sendable {
    /// The text that holds them.
    package let text: any RowText
    /// Where they are in it.
    package let lines: ArraySlice<RowPlace>
    /// Columns whose values the format cannot tell; in their place rows have any value that is not null.
    package var unreadable: [String: UnreadableColumn] = [:]
}

/// What keeps a column's values from being read.
public struct UnreadableColumn: Hashable, Sendable {
    /// The column, or the part of it, as `messages[].time`.
    public let path: String
    /// Its type, in the format's words.
    public let type: String

    /// Names a type.
    public init(path: String, type: String) {
        self.path = path
        self.type = type
    }
}

/// A file that is mapped as a whole is its own text.
extension RowFile where Self: RowText {
    package func forEachPart(
        ofAtMost maxRows: Int, _ use: (RowPart) throws(DatasetError) -> Void
    ) throws(DatasetError) {
        var rest = lines[...]
        while !rest.isEmpty {
            try use(RowPart(text: self, lines: rest.prefix(maxRows)))
            rest = rest.dropFirst(maxRows)
        }
    }
}

/// The formats of files of rows, told by the ends of their names.
package enum RowFormat: Sendable {
    /// Comma-separated values: `.csv`.
    case csv
    /// Apache Parquet: `.parquet`.
    case parquet
    /// JSON lines: any other name.
    case jsonLines

    /// The format of a file.
    package init(of path: String) {
        switch URL(filePath: path).pathExtension.lowercased() {
        case "csv": self = .csv
        case "parquet": self = .parquet
        default: self = .jsonLines
        }
    }

    /// Opens a file of this format.
    ///
    /// - Throws: a `DatasetError`, if the file cannot be read; of a text also if it is in UTF-16, has no rows, or no header where it
    ///   needs one.
    package func open(_ url: URL) throws(DatasetError) -> any RowFile {
        switch self {
        case .csv: try CSVRows(contentsOf: url)
        case .parquet: try ParquetRows(contentsOf: url)
        case .jsonLines: try JSONLines(contentsOf: url)
        }
    }

    /// Maps a text where the system can, and refuses UTF-16.
    static func text(of url: URL) throws(DatasetError) -> Data {
        let data = try contents(of: url)
        if data.starts(with: [0xFF, 0xFE]) || data.starts(with: [0xFE, 0xFF]) {
            throw DatasetError(file: url.relativePath, line: nil, problem: .notUTF8)
        }
        return data
    }

    /// Maps a file where the system can.
    static func contents(of url: URL) throws(DatasetError) -> Data {
        do {
            return try Data(contentsOf: url, options: .mappedIfSafe)
        } catch {
            throw DatasetError(
                file: url.relativePath, line: nil,
                problem: .unreadable(reason: reason(for: error, at: url)))
        }
    }

    private static func reason(for error: any Error, at url: URL) -> String {
        var isFolder: ObjCBool = false
        let exists = FileManager.default.fileExists(atPath: url.path, isDirectory: &isFolder)
        if !exists { return "there is no such file" }
        if isFolder.boolValue { return "it is a folder; name the file" }
        return error.localizedDescription
    }
}
