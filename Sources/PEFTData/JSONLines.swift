package import Foundation
package import PEFTTokenizers

/// The rows of a JSON lines file, read in place.
///
/// Lines end in LF or CRLF; blank lines are skipped, and so is a UTF-8 byte order mark at the start. The
/// file is mapped into memory, not copied, where the system can map it.
package struct JSONLines: RowFile, RowText {
    /// The file's path, as it was given.
    package let file: String
    /// The lines that are not blank.
    package let lines: [RowPlace]
    private let data: Data

    /// Maps a file and finds its lines.
    ///
    /// - Throws: a `DatasetError`, if the file cannot be read, is in UTF-16, or has no rows.
    package init(contentsOf url: URL) throws(DatasetError) {
        file = url.relativePath
        data = try RowFormat.text(of: url)
        lines = data.withUnsafeBytes(Self.rowLines)
        if lines.isEmpty { throw DatasetError(file: file, line: nil, problem: .noRows) }
    }

    /// Takes texts that a reader of another format has made.
    ///
    /// - Parameters:
    ///   - text: the rows, one after another, with or without something between them.
    ///   - lines: where they are in it.
    ///   - file: the path of the file that they are from.
    init(_ text: Data, lines: [RowPlace], file: String) {
        self.file = file
        self.lines = lines
        data = text
    }

    /// Parses one line.
    package func value(of line: RowPlace) throws(DatasetProblem) -> JSONValue {
        let result = data.withUnsafeBytes { bytes in
            Result { () throws(JSONError) in
                try JSONValue(parsing: UnsafeRawBufferPointer(rebasing: bytes[line.range]))
            }
        }
        do {
            return try result.get()
        } catch {
            throw .invalidJSON(column: error.column, expected: error.expected, found: error.found)
        }
    }

    private static func rowLines(of bytes: UnsafeRawBufferPointer) -> [RowPlace] {
        var lines: [RowPlace] = []
        var start = bytes.starts(with: [0xEF, 0xBB, 0xBF]) ? 3 : 0
        var number = 1
        while start < bytes.count, let base = bytes.baseAddress {
            let rest = bytes.count - start
            let end =
                memchr(base + start, 0x0A, rest).map { UnsafeRawPointer($0) - base } ?? bytes.count
            let isBlank = bytes[start..<end].allSatisfy { $0 == 0x20 || $0 == 0x09 || $0 == 0x0D }
            if !isBlank {
                let hasCarriageReturn = bytes[end - 1] == 0x0D
                lines.append(
                    RowPlace(number: number, range: start..<(hasCarriageReturn ? end - 1 : end)))
            }
            start = end + 1
            number += 1
        }
        return lines
    }
}
