import Dispatch
public import Foundation
public import PEFTTokenizers
import Synchronization

extension TokenDataset {
    /// Reads and encodes a JSON lines file, on all cores.
    ///
    /// - Parameters:
    ///   - url: the file.
    ///   - tokenizer: may be nil if all rows are rows of tokens.
    ///   - options: what is learned, and how long rows may be.
    /// - Returns: the rows in the order of the file.
    /// - Throws: a `DatasetError` with the first line in error.
    /// - Memory: 5 bytes a token; the file itself is mapped.
    public static func load(
        _ url: URL, tokenizer: Tokenizer?, options: EncodingOptions = EncodingOptions()
    ) throws(DatasetError) -> TokenDataset {
        let file = try JSONLines(contentsOf: url)
        let encoder = RowEncoder(tokenizer: tokenizer, options: options)
        let rows = try FileEncoding(file: file, encoder: encoder, options: options).encodeAll()
        return try limited(rows, of: file, encoder, options)
    }

    /// Applies the length limit, and counts.
    private static func limited(
        _ rows: [FileEncoding.Row], of file: JSONLines, _ encoder: RowEncoder,
        _ options: EncodingOptions
    ) throws(DatasetError) -> TokenDataset {
        let limit = LengthLimit(maxLength: options.maxLength, mode: options.truncationMode)
        try limit.check(rows.map(\.encoded.tokens.count), of: file)
        var sequences: [TokenSequence] = []
        sequences.reserveCapacity(rows.count)
        for (row, line) in zip(rows, file.lines) {
            let encoded: RowEncoder.EncodedRow
            do {
                encoded = try limit.apply(to: row.encoded)
            } catch {
                throw DatasetError(file: file.file, line: line.number, problem: error)
            }
            sequences.append(
                TokenSequence(
                    tokens: encoded.tokens, isTarget: encoded.isTarget, row: sequences.count))
        }
        var audit = DatasetAudit(of: sequences, eosTokenID: encoder.eosTokenID)
        audit.numTruncatedRows = rows.count { limit.exceeded(by: $0.encoded.tokens.count) }
        audit.numRowsWithPromptEndInsideToken = rows.count { $0.encoded.promptEndsInsideToken }
        for column in rows.lazy.flatMap(\.ignoredColumns) {
            audit.ignoredColumns[column, default: 0] += 1
        }
        return TokenDataset(sequences: sequences, audit: audit)
    }
}

/// The encoding of a file's rows in parallel, in chunks of lines, their order kept.
private struct FileEncoding: Sendable {
    struct Row: Sendable {
        var encoded: RowEncoder.EncodedRow
        var ignoredColumns: [String]
    }

    let file: JSONLines
    let encoder: RowEncoder
    let options: EncodingOptions

    private static let linesPerChunk = 64

    func encodeAll() throws(DatasetError) -> [Row] {
        let numChunks = (file.lines.count + Self.linesPerChunk - 1) / Self.linesPerChunk
        let finished = Mutex<[Int: Result<[Row], DatasetError>]>([:])
        let firstFailure = Mutex(Int.max)
        DispatchQueue.concurrentPerform(iterations: numChunks) { chunk in
            // Only what comes after a failing chunk is left out, so the first error is the file's first.
            guard chunk < firstFailure.withLock({ $0 }) else { return }
            let result = Result { () throws(DatasetError) in try encode(chunk) }
            if case .failure = result { firstFailure.withLock { $0 = min($0, chunk) } }
            finished.withLock { $0[chunk] = result }
        }
        let results = finished.withLock { $0 }
        var rows: [Row] = []
        rows.reserveCapacity(file.lines.count)
        for chunk in 0..<numChunks {
            if let result = results[chunk] { rows += try result.get() }
        }
        return rows
    }

    private func encode(_ chunk: Int) throws(DatasetError) -> [Row] {
        let first = chunk * Self.linesPerChunk
        var rows: [Row] = []
        for line in file.lines[first..<min(first + Self.linesPerChunk, file.lines.count)] {
            do {
                rows.append(try encode(line))
            } catch {
                throw DatasetError(file: file.file, line: line.number, problem: error)
            }
        }
        return rows
    }

    private func encode(_ line: JSONLines.Line) throws(DatasetProblem) -> Row {
        let (row, ignored) = try DatasetRow.parse(
            try file.value(of: line), ignoresExtraColumns: options.ignoresExtraColumns)
        return Row(encoded: try encoder.encode(row), ignoredColumns: ignored)
    }
}
