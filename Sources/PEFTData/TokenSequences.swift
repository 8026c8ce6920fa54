/// The encoded rows of a dataset: in memory, in a file, or one dataset's after another's.
public struct TokenSequences: Sendable, RandomAccessCollection, Equatable {
    private indirect enum Storage: Sendable {
        case memory([TokenSequence])
        case file(TokenFile)
        /// Datasets in order, and where each one begins.
        case joined([TokenSequences], starts: [Int])
    }

    private let storage: Storage

    /// Rows in memory.
    public init(_ sequences: [TokenSequence]) { storage = .memory(sequences) }

    /// Rows in a file.
    init(_ file: TokenFile) { storage = .file(file) }

    /// One dataset's rows after another's; each row's number counts through all of them.
    init(joining parts: [TokenSequences]) {
        var starts: [Int] = []
        var count = 0
        for part in parts {
            starts.append(count)
            count += part.count
        }
        storage = .joined(parts, starts: starts)
    }

    /// The first row's position, 0.
    public var startIndex: Int { 0 }

    /// The number of rows.
    public var endIndex: Int {
        switch storage {
        case .memory(let rows): rows.count
        case .file(let file): file.count
        case .joined(let parts, let starts): (starts.last ?? 0) + (parts.last?.count ?? 0)
        }
    }

    /// A row; one in a file is read from it.
    public subscript(position: Int) -> TokenSequence {
        switch storage {
        case .memory(let rows): return rows[position]
        case .file(let file): return file[position]
        case .joined(let parts, let starts):
            let part = Self.part(of: position, starts)
            let row = parts[part][position - starts[part]]
            return TokenSequence(
                tokens: row.tokens, isTarget: row.isTarget, row: position,
                isDesirable: row.isDesirable)
        }
    }

    /// The number of a row's tokens, without reading it.
    package func length(at position: Int) -> Int {
        switch storage {
        case .memory(let rows): return rows[position].tokens.count
        case .file(let file): return file.length(at: position)
        case .joined(let parts, let starts):
            let part = Self.part(of: position, starts)
            return parts[part].length(at: position - starts[part])
        }
    }

    /// The number of a row's tokens whose loss counts, without reading it.
    package func numTargetTokens(at position: Int) -> Int {
        switch storage {
        case .memory(let rows): return rows[position].numTargetTokens
        case .file(let file): return file.numTargetTokens(at: position)
        case .joined(let parts, let starts):
            let part = Self.part(of: position, starts)
            return parts[part].numTargetTokens(at: position - starts[part])
        }
    }

    /// The number of each row's tokens.
    package var lengths: [Int] { indices.map { length(at: $0) } }

    private static func part(of position: Int, _ starts: [Int]) -> Int {
        // The last that begins at or before the position and is not empty.
        (starts.lastIndex { $0 <= position }) ?? 0
    }

    /// Equal rows in the same order, wherever they are.
    public static func == (left: TokenSequences, right: TokenSequences) -> Bool {
        left.count == right.count && left.elementsEqual(right)
    }
}
