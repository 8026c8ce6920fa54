/// Why no schedule can be made of a dataset and options.
public enum BatchScheduleError: Error, Hashable, Sendable, CustomStringConvertible {
    /// The dataset has no rows.
    case emptyDataset
    /// An option that counts something is below 1.
    case countBelowOne(option: String, value: Int)
    /// Packing is asked for, but not how many tokens a bin holds.
    case packingWithoutMaxLength
    /// A row has more tokens than a bin holds.
    case rowTooLong(row: Int, length: Int, maxLength: Int)

    /// What is wrong, and what to do about it.
    public var description: String {
        switch self {
        case .emptyDataset:
            "the dataset has no rows: nothing to train on"
        case .countBelowOne(let option, let value):
            "\(option): expected at least 1, found \(value)"
        case .packingWithoutMaxLength:
            "packing needs max_length, the number of tokens that a packed sequence holds; set it"
        case .rowTooLong(let row, let length, let maxLength):
            """
            row \(row) (counted from 0) has \(length) tokens, a packed sequence holds max_length = \
            \(maxLength): raise max_length, or encode the rows with a truncation_mode
            """
        }
    }
}
