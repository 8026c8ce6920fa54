import Dispatch
public import Foundation
public import PEFTTokenizers
import Synchronization

extension TokenDataset {
    /// Reads and encodes a file of rows, on all cores: of the format that the end of its name tells (`RowFormat`).
    ///
    /// - Parameters:
    ///   - url: the file.
    ///   - tokenizer: may be nil if all rows are rows of tokens.
    ///   - options: what is learned, and how long rows may be.
    /// - Returns: the rows in the order of the file; of pairs, the better one first.
    /// - Throws: a `DatasetError` with the first line in error.
    /// - Memory: 5 bytes a token, or with a folder to stream from 13 bytes a row; the file itself is mapped. Of Parquet also one part
    ///   of the file, as texts.
    public static func load(
        _ url: URL, tokenizer: Tokenizer?, options: EncodingOptions = EncodingOptions()
    ) throws(DatasetError) -> TokenDataset {
        let file = try RowFormat(of: url.path).open(url)
        let encoder = RowEncoder(tokenizer: tokenizer, options: options)
        let limit = LengthLimit(maxLength: options.maxLength, mode: options.truncationMode)
        let encoding = RowEncoding(encoder: encoder, options: options)
        let rowsPerElement = options.use == .pairs ? 2 : 1
        var rows = try EncodedRows(
            of: file.file, limit: limit, eosTokenID: encoder.eosTokenID,
            streamingFolder: options.streamingFolder, rowsPerElement: rowsPerElement)
        // All rows, or so many that what is made of them fits into memory.
        let maxRows = options.streamingFolder == nil ? Int.max : 16_384
        try file.forEachPart(ofAtMost: maxRows) { part throws(DatasetError) in
            try rows.add(try encoding.encode(part, of: file.file), from: part)
        }
        return try rows.finish()
    }
}

/// What has been encoded of a file: rows, in memory or in a file, and counts.
private struct EncodedRows: ~Copyable {
    private let file: String
    private let limit: LengthLimit
    private let eosTokenID: Int32?
    private let rowsPerElement: Int
    private var sequences: [TokenSequence] = []
    private var writer: TokenFile.Writer?
    private var audit: DatasetAudit
    private var tooLong = TooLongRows()
    private var numRows = 0

    init(
        of file: String, limit: LengthLimit, eosTokenID: Int32?, streamingFolder: String?,
        rowsPerElement: Int
    ) throws(DatasetError) {
        self.file = file
        self.limit = limit
        self.eosTokenID = eosTokenID
        self.rowsPerElement = rowsPerElement
        audit = DatasetAudit(of: [], eosTokenID: eosTokenID)
        guard let streamingFolder else { return }
        do {
            writer = try TokenFile.Writer(in: streamingFolder, rowsPerElement: rowsPerElement)
        } catch {
            throw DatasetError(file: file, line: nil, problem: error)
        }
    }

    /// Applies the length limit to the rows of a part, and counts and keeps them.
    ///
    /// Rows that are too long are an error when all of them are known; until then they stay as they are.
    mutating func add(_ rows: [RowEncoding.Row], from part: RowPart) throws(DatasetError) {
        try limit.check(of: file)
        var added: [TokenSequence] = []
        var counts = DatasetAudit(of: [], eosTokenID: eosTokenID)
        for (row, line) in zip(rows, part.lines) {
            var longest = 0
            for whole in row.encoded {
                longest = max(longest, whole.tokens.count)
                do {
                    let encoded = try limit.apply(to: whole)
                    added.append(
                        TokenSequence(
                            tokens: encoded.tokens, isTarget: encoded.isTarget, row: numRows,
                            isDesirable: encoded.isDesirable))
                } catch {
                    throw DatasetError(file: file, line: line.number, problem: error)
                }
                if limit.exceeded(by: whole.tokens.count) { counts.numTruncatedRows += 1 }
                if whole.promptEndsInsideToken { counts.numRowsWithPromptEndInsideToken += 1 }
            }
            if limit.exceeded(by: longest) { tooLong.add(length: longest, line: line.number) }
            numRows += 1
            for column in row.ignoredColumns { counts.ignoredColumns[column, default: 0] += 1 }
        }
        audit = audit + counts + DatasetAudit(of: added, eosTokenID: eosTokenID)
        guard writer != nil else {
            sequences += added
            return
        }
        do {
            try writer?.append(added)
        } catch {
            throw DatasetError(file: file, line: nil, problem: error)
        }
    }

    /// The dataset; refuses rows that are too long.
    consuming func finish() throws(DatasetError) -> TokenDataset {
        try limit.check(tooLong, of: file)
        let kept: TokenSequences
        do {
            kept = TokenSequences(sequences)
            if let written = try writer?.finish() {
                return TokenDataset(
                    sequences: TokenSequences(written), audit: audit,
                    rowsPerElement: rowsPerElement)
            }
        } catch {
            throw DatasetError(file: file, line: nil, problem: error)
        }
        return TokenDataset(sequences: kept, audit: audit, rowsPerElement: rowsPerElement)
    }
}

/// The encoding of rows in parallel, in chunks of lines, their order kept.
private struct RowEncoding: Sendable {
    struct Row: Sendable {
        var encoded: [RowEncoder.EncodedRow]
        var ignoredColumns: [String]
    }

    let encoder: RowEncoder
    let options: EncodingOptions

    private static let linesPerChunk = 64

    /// Encodes a part of a file.
    func encode(_ part: RowPart, of file: String) throws(DatasetError) -> [Row] {
        let numChunks = (part.lines.count + Self.linesPerChunk - 1) / Self.linesPerChunk
        let finished = Mutex<[Int: Result<[Row], DatasetError>]>([:])
        let firstFailure = Mutex(Int.max)
        DispatchQueue.concurrentPerform(iterations: numChunks) { chunk in
            // Only what comes after a failing chunk is left out, so the first error is the file's first.
            guard chunk < firstFailure.withLock({ $0 }) else { return }
            let lines = part.lines.dropFirst(chunk * Self.linesPerChunk).prefix(Self.linesPerChunk)
            let result = Result { () throws(DatasetError) in
                try encode(lines, in: part, of: file)
            }
            if case .failure = result { firstFailure.withLock { $0 = min($0, chunk) } }
            finished.withLock { $0[chunk] = result }
        }
        let results = finished.withLock { $0 }
        var rows: [Row] = []
        rows.reserveCapacity(part.lines.count)
        for chunk in 0..<numChunks {
            if let result = results[chunk] { rows += try result.get() }
        }
        return rows
    }

    private func encode(
        _ lines: ArraySlice<RowPlace>, in part: RowPart, of file: String
    ) throws(DatasetError) -> [Row] {
        var rows: [Row] = []
        for line in lines {
            do {
                rows.append(try encode(line, in: part))
            } catch {
                throw DatasetError(file: file, line: line.number, problem: error)
            }
        }
        return rows
    }

    private func encode(_ line: RowPlace, in part: RowPart) throws(DatasetProblem) -> Row {
        let (row, ignored) = try DatasetRow.parse(
            try part.text.value(of: line), for: options.use,
            ignoresExtraColumns: options.ignoresExtraColumns, unreadable: part.unreadable)
        return Row(encoded: try encoder.encodeAll(row), ignoredColumns: ignored)
    }
}
