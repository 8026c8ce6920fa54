package import Foundation
package import PEFTTokenizers

/// A file of rows, read in place.
package protocol RowFile: Sendable {
    /// The file's path, as it was given.
    var file: String { get }
    /// Where the rows are.
    var lines: [RowPlace] { get }
    /// Parses one row.
    func value(of line: RowPlace) throws(DatasetProblem) -> JSONValue
}

/// Where a row is in its file.
package struct RowPlace: Sendable, Hashable {
    /// The number of the line in which it begins, from 1, blank ones counted.
    package let number: Int
    /// Where its bytes are, the line end excluded.
    package let range: Range<Int>
}

/// The formats of files of rows.
package enum RowFiles {
    /// Opens a file: comma-separated values if its name ends in `.csv`, else JSON lines.
    ///
    /// - Throws: a `DatasetError`, if the file cannot be read, is in UTF-16, has no rows, or no header where it needs one.
    package static func open(_ url: URL) throws(DatasetError) -> any RowFile {
        guard url.pathExtension.lowercased() == "csv" else { return try JSONLines(contentsOf: url) }
        return try CSVRows(contentsOf: url)
    }

    /// Maps a file where the system can, and refuses UTF-16.
    static func contents(of url: URL) throws(DatasetError) -> Data {
        let data: Data
        do {
            data = try Data(contentsOf: url, options: .mappedIfSafe)
        } catch {
            throw DatasetError(
                file: url.relativePath, line: nil,
                problem: .unreadable(reason: reason(for: error, at: url)))
        }
        if data.starts(with: [0xFF, 0xFE]) || data.starts(with: [0xFE, 0xFF]) {
            throw DatasetError(file: url.relativePath, line: nil, problem: .notUTF8)
        }
        return data
    }

    private static func reason(for error: any Error, at url: URL) -> String {
        var isFolder: ObjCBool = false
        let exists = FileManager.default.fileExists(atPath: url.path, isDirectory: &isFolder)
        if !exists { return "there is no such file" }
        if isFolder.boolValue { return "it is a folder; name the file" }
        return error.localizedDescription
    }
}
