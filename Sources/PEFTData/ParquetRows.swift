import CParquet
import Foundation

/// The rows of a file in Apache Parquet, read a part at a time.
///
/// The library PEFTParquet makes a text in JSON of each row, which is parsed and checked as a line of JSON lines is. A row is what
/// Python's `json` writes of pyarrow's `to_pylist`, but for two types: maps by text are objects, and numbers that are not finite are
/// null, as in what `datasets` writes as JSON. Columns that no kind of row reads are only asked whether they are null.
///
/// - Memory: the rows of a part, as decoded and as texts; the file is mapped.
struct ParquetRows: RowFile {
    /// The most rows of a part, whatever is asked for.
    private static let maxRowsOfPart = 4096

    let file: String
    private let path: String

    /// Names a file that exists and can be read.
    ///
    /// - Throws: a `DatasetError` otherwise.
    init(contentsOf url: URL) throws(DatasetError) {
        file = url.relativePath
        path = url.path
        _ = try RowFormat.contents(of: url)
    }

    func forEachPart(
        ofAtMost maxRows: Int, _ use: (RowPart) throws(DatasetError) -> Void
    ) throws(DatasetError) {
        let reader: ParquetReader
        do {
            reader = try ParquetReader(path, maxRows: min(maxRows, Self.maxRowsOfPart))
        } catch {
            throw DatasetError(file: file, line: nil, problem: error)
        }
        if reader.numRows == 0 { throw DatasetError(file: file, line: nil, problem: .noRows) }
        var numRows = 0
        while let part = try reader.next(after: numRows, of: file) {
            try use(part)
            numRows += part.lines.count
        }
    }
}

/// A Parquet file that is open.
private final class ParquetReader {
    private let functions: CParquetFunctions
    private let handle: OpaquePointer
    private let unreadable: [String: UnreadableColumn]

    /// Opens a file.
    init(_ path: String, maxRows: Int) throws(DatasetProblem) {
        functions = try ParquetLibrary.load()
        let names = RowKind.columns.map { strdup($0) }
        defer { for name in names { free(name) } }
        let columns = names.map { $0.map { UnsafePointer($0) } }
        guard let handle = functions.open(path, columns, Int32(columns.count), Int64(maxRows))
        else { throw .invalidParquet(reason: Self.reason(functions)) }
        self.handle = handle
        var unreadable: [String: UnreadableColumn] = [:]
        for index in 0..<functions.num_unreadable(handle) {
            let column = functions.unreadable(handle, index)
            unreadable[String(cString: column.name)] = UnreadableColumn(
                path: String(cString: column.path), type: String(cString: column.type))
        }
        self.unreadable = unreadable
    }

    deinit { functions.close(handle) }

    /// Why the last call has failed.
    private static func reason(_ functions: CParquetFunctions) -> String {
        functions.error().map { String(cString: $0) } ?? ""
    }

    /// The rows of the whole file, as it says itself.
    var numRows: Int { Int(functions.num_rows(handle)) }

    /// The next rows; nil at the end.
    ///
    /// - Throws: a `DatasetError` with the row that cannot be read, if it is known.
    func next(after numRows: Int, of file: String) throws(DatasetError) -> RowPart? {
        var rows = CParquetRows()
        let status = functions.next(handle, &rows)
        guard status == 0 else {
            throw DatasetError(
                file: file, line: status == 2 ? numRows + 1 : nil,
                problem: .invalidParquet(reason: Self.reason(functions)))
        }
        guard rows.count > 0, let text = rows.text, let ends = rows.ends else { return nil }
        var places: [RowPlace] = []
        places.reserveCapacity(Int(rows.count))
        var start = 0
        for index in 0..<Int(rows.count) {
            let end = Int(ends[index])
            places.append(RowPlace(number: numRows + index + 1, range: start..<end))
            start = end
        }
        let lines = JSONLines(Data(bytes: text, count: start), lines: places, file: file)
        return RowPart(text: lines, lines: places[...], unreadable: unreadable)
    }
}

/// The library that reads Parquet.
enum ParquetLibrary {
    /// The name of its file, which lies beside the program.
    static let name = "libPEFTParquet.so"

    /// Loads the library; the first call takes the time.
    ///
    /// It is not linked, so that runs without Parquet do not pay for Arrow's start and memory.
    static func load() throws(DatasetProblem) -> CParquetFunctions {
        // A name without a folder is searched where the program says, which is beside it.
        guard let library = dlopen(name, RTLD_NOW | RTLD_LOCAL),
            let symbol = dlsym(library, "cparquet_functions")
        else {
            throw .parquetUnavailable(
                reason: dlerror().map { String(cString: $0) } ?? "unknown reason")
        }
        typealias Functions = @convention(c) () -> UnsafePointer<CParquetFunctions>
        return unsafeBitCast(symbol, to: Functions.self)().pointee
    }
}
