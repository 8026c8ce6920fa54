/// What is wrong with a dataset, and where.
public struct DatasetError: Error, Hashable, Sendable, CustomStringConvertible {
    /// The file's path, as it was given.
    public let file: String
    /// The line, or of Parquet the row, from 1; nil if the problem is the file's or the options'.
    public let line: Int?
    /// What is wrong.
    public let problem: DatasetProblem

    /// Makes an error.
    public init(file: String, line: Int?, problem: DatasetProblem) {
        self.file = file
        self.line = line
        self.problem = problem
    }

    /// Place, problem and remedy, `train.jsonl:17: ...` or `row 17 of train.parquet: ...`.
    public var description: String {
        guard let line else { return "\(file): \(problem)" }
        return switch RowFormat(of: file) {
        case .parquet: "row \(line) of \(file): \(problem)"
        case .csv, .jsonLines: "\(file):\(line): \(problem)"
        }
    }
}
