package import Foundation
package import PEFTTokenizers

/// The rows of a file of comma-separated values, read in place.
///
/// The first record names the columns. Records end in CRLF or LF; blank lines between them are skipped, and so is a UTF-8 byte order
/// mark at the start. A field may stand in double quotes, and then hold commas, line ends and quotes that are doubled. Columns of
/// texts are taken as they are; the others (`messages`, `tokens`, `label`, ...) hold JSON. An empty field that is no text counts as
/// missing.
///
/// - Source: RFC 4180, section 2.
package struct CSVRows: RowFile, RowText {
    package let file: String
    package let lines: [RowPlace]
    private let header: [String]
    private let data: Data

    /// The columns whose fields are texts.
    private static let textColumns: Set<String> = [
        "text", "prompt", "completion", "chosen", "rejected",
    ]

    /// Maps a file, reads its header and finds its records.
    ///
    /// - Throws: a `DatasetError`, if the file cannot be read, is in UTF-16, or has no header or no rows.
    package init(contentsOf url: URL) throws(DatasetError) {
        file = url.relativePath
        data = try RowFormat.text(of: url)
        var places: [RowPlace]
        do {
            places = try data.withUnsafeBytes { bytes in
                Result { () throws(RecordError) in try Self.places(in: bytes) }
            }.get()
        } catch {
            throw DatasetError(file: url.relativePath, line: error.line, problem: error.problem)
        }
        guard !places.isEmpty else {
            throw DatasetError(file: file, line: nil, problem: .noRows)
        }
        let first = places.removeFirst()
        do {
            header = try Self.fields(of: first, in: data)
        } catch {
            throw DatasetError(file: file, line: first.number, problem: error)
        }
        for (index, name) in header.enumerated() where header[..<index].contains(name) {
            throw DatasetError(
                file: file, line: first.number,
                problem: .invalidCSV(reason: "the header names the column \"\(name)\" twice"))
        }
        guard !places.isEmpty else {
            throw DatasetError(file: file, line: nil, problem: .noRows)
        }
        lines = places
    }

    /// Parses one record.
    package func value(of line: RowPlace) throws(DatasetProblem) -> JSONValue {
        let fields = try Self.fields(of: line, in: data)
        guard fields.count == header.count else {
            throw .invalidCSV(
                reason: "expected \(header.count) fields as in the header, found \(fields.count)")
        }
        var columns: [(String, JSONValue)] = []
        for (name, field) in zip(header, fields) {
            columns.append((name, try Self.value(of: field, in: name)))
        }
        return .object(JSONObject(columns))
    }

    private static func value(
        of field: String, in column: String
    ) throws(DatasetProblem) -> JSONValue {
        if textColumns.contains(column) { return .string(field) }
        if field.isEmpty { return .null }
        // Python writes Booleans so.
        if field == "True" || field == "False" { return .bool(field == "True") }
        return (try? JSONValue(parsing: field)) ?? .string(field)
    }

    // MARK: - Reading

    private struct RecordError: Error {
        let line: Int
        let problem: DatasetProblem
    }

    /// Where each record is: up to a line end outside of quotes.
    private static func places(
        in bytes: UnsafeRawBufferPointer
    ) throws(RecordError) -> [RowPlace] {
        var places: [RowPlace] = []
        var start = bytes.starts(with: [0xEF, 0xBB, 0xBF]) ? 3 : 0
        var number = 1
        while start < bytes.count {
            let firstNumber = number
            var end = start
            var isQuoted = false
            while end < bytes.count, isQuoted || bytes[end] != 0x0A {
                if bytes[end] == 0x22 { isQuoted.toggle() }
                if bytes[end] == 0x0A { number += 1 }
                end += 1
            }
            guard !isQuoted else {
                throw RecordError(
                    line: firstNumber,
                    problem: .invalidCSV(reason: "a quoted field does not end"))
            }
            let hasCarriageReturn = end > start && bytes[end - 1] == 0x0D
            let range = start..<(hasCarriageReturn ? end - 1 : end)
            if !range.isEmpty { places.append(RowPlace(number: firstNumber, range: range)) }
            start = end + 1
            number += 1
        }
        return places
    }

    /// The fields of a record, without quotes.
    private static func fields(
        of place: RowPlace, in data: Data
    ) throws(DatasetProblem) -> [String] {
        let record = data[
            data.startIndex + place.range.lowerBound..<data.startIndex + place.range.upperBound]
        var fields: [String] = []
        var rest = record[...]
        while true {
            var field: [UInt8] = []
            if rest.first == 0x22 {
                rest = rest.dropFirst()
                while let byte = rest.popFirst() {
                    guard byte == 0x22 else {
                        field.append(byte)
                        continue
                    }
                    guard rest.first == 0x22 else { break }
                    field.append(0x22)
                    rest = rest.dropFirst()
                }
                guard rest.isEmpty || rest.first == 0x2C else {
                    throw .invalidCSV(
                        reason: "text after the end of a quoted field; double its quotes")
                }
            } else {
                let plain = rest.prefix { $0 != 0x2C }
                guard !plain.contains(0x22) else {
                    throw .invalidCSV(
                        reason: "a quote within a field; put the field in quotes and double it")
                }
                field = Array(plain)
                rest = rest.dropFirst(plain.count)
            }
            guard let text = String(validating: field, as: UTF8.self) else {
                throw .invalidCSV(reason: "a field is not UTF-8 text")
            }
            fields.append(text)
            guard rest.first == 0x2C else { return fields }
            rest = rest.dropFirst()
        }
    }
}
