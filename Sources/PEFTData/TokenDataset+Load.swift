import Dispatch
public import Foundation
public import PEFTTokenizers
import Synchronization

extension TokenDataset {
    /// Reads and encodes a file of rows, on all cores: comma-separated values if its name ends in `.csv`, else JSON lines.
    ///
    /// - Parameters:
    ///   - url: the file.
    ///   - tokenizer: may be nil if all rows are rows of tokens.
    ///   - options: what is learned, and how long rows may be.
    /// - Returns: the rows in the order of the file; of pairs, the better one first.
    /// - Throws: a `DatasetError` with the first line in error.
    /// - Memory: 5 bytes a token, or with a folder to stream from 13 bytes a row; the file itself is mapped.
    public static func load(
        _ url: URL, tokenizer: Tokenizer?, options: EncodingOptions = EncodingOptions()
    ) throws(DatasetError) -> TokenDataset {
        let file = try RowFiles.open(url)
        let encoder = RowEncoder(tokenizer: tokenizer, options: options)
        let limit = LengthLimit(maxLength: options.maxLength, mode: options.truncationMode)
        let encoding = FileEncoding(file: file, encoder: encoder, options: options)
        let rowsPerElement = options.use == .pairs ? 2 : 1
        var rows = try EncodedRows(
            of: file, limit: limit, eosTokenID: encoder.eosTokenID,
            streamingFolder: options.streamingFolder, rowsPerElement: rowsPerElement)
        for window in encoding.windows {
            try rows.add(try encoding.encode(window), from: window)
        }
        return try rows.finish()
    }
}

/// What has been encoded of a file: rows, in memory or in a file, and counts.
private struct EncodedRows: ~Copyable {
    private let file: any RowFile
    private let limit: LengthLimit
    private let eosTokenID: Int32?
    private let rowsPerElement: Int
    private var sequences: [TokenSequence] = []
    private var writer: TokenFile.Writer?
    private var audit: DatasetAudit
    private var lengths: [Int] = []

    init(
        of file: any RowFile, limit: LengthLimit, eosTokenID: Int32?, streamingFolder: String?,
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
            throw DatasetError(file: file.file, line: nil, problem: error)
        }
    }

    /// Applies the length limit to the rows of some lines, and counts and keeps them.
    ///
    /// Rows that are too long are an error when all of them are known; until then they stay as they are.
    mutating func add(_ rows: [FileEncoding.Row], from lines: Range<Int>) throws(DatasetError) {
        try limit.check([], of: file)
        var added: [TokenSequence] = []
        var part = DatasetAudit(of: [], eosTokenID: eosTokenID)
        for (row, line) in zip(rows, lines) {
            var longest = 0
            for whole in row.encoded {
                longest = max(longest, whole.tokens.count)
                do {
                    let encoded = try limit.apply(to: whole)
                    added.append(
                        TokenSequence(
                            tokens: encoded.tokens, isTarget: encoded.isTarget, row: line,
                            isDesirable: encoded.isDesirable))
                } catch {
                    throw DatasetError(
                        file: file.file, line: file.lines[line].number, problem: error)
                }
                if limit.exceeded(by: whole.tokens.count) { part.numTruncatedRows += 1 }
                if whole.promptEndsInsideToken { part.numRowsWithPromptEndInsideToken += 1 }
            }
            lengths.append(longest)
            for column in row.ignoredColumns { part.ignoredColumns[column, default: 0] += 1 }
        }
        audit = audit + part + DatasetAudit(of: added, eosTokenID: eosTokenID)
        guard writer != nil else {
            sequences += added
            return
        }
        do {
            try writer?.append(added)
        } catch {
            throw DatasetError(file: file.file, line: nil, problem: error)
        }
    }

    /// The dataset; refuses rows that are too long.
    consuming func finish() throws(DatasetError) -> TokenDataset {
        try limit.check(lengths, of: file)
        let kept: TokenSequences
        do {
            kept = TokenSequences(sequences)
            if let written = try writer?.finish() {
                return TokenDataset(
                    sequences: TokenSequences(written), audit: audit,
                    rowsPerElement: rowsPerElement)
            }
        } catch {
            throw DatasetError(file: file.file, line: nil, problem: error)
        }
        return TokenDataset(sequences: kept, audit: audit, rowsPerElement: rowsPerElement)
    }
}

/// The encoding of a file's rows in parallel, in chunks of lines, their order kept.
private struct FileEncoding: Sendable {
    struct Row: Sendable {
        var encoded: [RowEncoder.EncodedRow]
        var ignoredColumns: [String]
    }

    let file: any RowFile
    let encoder: RowEncoder
    let options: EncodingOptions

    private static let linesPerChunk = 64
    private static let chunksPerWindow = 256

    /// Ranges of lines that are encoded together: all, or so many that what they make fits into memory.
    var windows: [Range<Int>] {
        let count = file.lines.count
        let size =
            options.streamingFolder == nil ? count : Self.linesPerChunk * Self.chunksPerWindow
        return stride(from: 0, to: count, by: max(1, size)).map { $0..<min($0 + size, count) }
    }

    /// Encodes a window of lines.
    func encode(_ window: Range<Int>) throws(DatasetError) -> [Row] {
        let numChunks = (window.count + Self.linesPerChunk - 1) / Self.linesPerChunk
        let finished = Mutex<[Int: Result<[Row], DatasetError>]>([:])
        let firstFailure = Mutex(Int.max)
        DispatchQueue.concurrentPerform(iterations: numChunks) { chunk in
            // Only what comes after a failing chunk is left out, so the first error is the file's first.
            guard chunk < firstFailure.withLock({ $0 }) else { return }
            let first = window.lowerBound + chunk * Self.linesPerChunk
            let lines = first..<min(first + Self.linesPerChunk, window.upperBound)
            let result = Result { () throws(DatasetError) in try encode(lines: lines) }
            if case .failure = result { firstFailure.withLock { $0 = min($0, chunk) } }
            finished.withLock { $0[chunk] = result }
        }
        let results = finished.withLock { $0 }
        var rows: [Row] = []
        rows.reserveCapacity(window.count)
        for chunk in 0..<numChunks {
            if let result = results[chunk] { rows += try result.get() }
        }
        return rows
    }

    private func encode(lines: Range<Int>) throws(DatasetError) -> [Row] {
        var rows: [Row] = []
        for line in file.lines[lines] {
            do {
                rows.append(try encode(line))
            } catch {
                throw DatasetError(file: file.file, line: line.number, problem: error)
            }
        }
        return rows
    }

    private func encode(_ line: RowPlace) throws(DatasetProblem) -> Row {
        let (row, ignored) = try DatasetRow.parse(
            try file.value(of: line), for: options.use,
            ignoresExtraColumns: options.ignoresExtraColumns)
        return Row(encoded: try encoder.encodeAll(row), ignoredColumns: ignored)
    }
}
