/// What is wrong with a model, adapter or checkpoint on disk: what, where, expected, found, remedy.
public enum CheckpointError: Error, Equatable, Sendable {
    /// A path cannot be opened or read.
    case cannotRead(path: String, reason: String, remedy: String)
    /// A file ends before the contents that its header announces.
    case truncated(path: String, expectedBytes: Int, foundBytes: Int)
    /// A file breaks the rules of its format.
    case malformed(path: String, reason: String, remedy: String)
    /// A file is well formed but holds something that this library does not read.
    case unsupported(path: String, reason: String, remedy: String)
    /// Every difference between the tensors that are needed and those that are stored.
    case tensors(path: String, problems: [TensorProblem])
    /// A file or folder cannot be written; what was there before is untouched.
    case cannotWrite(path: String, reason: String, remedy: String)
}

/// One difference between the tensors that are needed and those that are stored.
public enum TensorProblem: Hashable, Sendable {
    /// A needed tensor is not stored.
    case missing(name: String, expected: [Int])
    /// A stored tensor is not needed.
    case unexpected(name: String, shape: [Int])
    /// A tensor is stored in another shape.
    case shape(name: String, expected: [Int], found: [Int])
    /// A tensor is stored in an element type that cannot be used here.
    case dtype(name: String, expected: String, found: String)
    /// A shard that the index names is not in the folder.
    case missingShard(file: String, numTensors: Int)
    /// The index places a tensor in a shard that does not hold it.
    case notInShard(name: String, file: String)
    /// A shard holds a tensor that the index does not place there.
    case notInIndex(name: String, file: String)
}

extension CheckpointError: CustomStringConvertible {
    /// The message that users read: one line, or one line and one more for each tensor problem.
    public var description: String {
        switch self {
        case .cannotRead(let path, let reason, let remedy):
            return "\(path): cannot be read: \(reason); \(remedy)"
        case .truncated(let path, let expected, let found):
            return "\(path): truncated: expected \(expected) bytes, found \(found); "
                + "copy or download the file again"
        case .malformed(let path, let reason, let remedy):
            return "\(path): \(reason); \(remedy)"
        case .unsupported(let path, let reason, let remedy):
            return "\(path): \(reason); \(remedy)"
        case .tensors(let path, let problems):
            return Self.list(problems, path: path)
        case .cannotWrite(let path, let reason, let remedy):
            return "\(path): cannot be written: \(reason); \(remedy)"
        }
    }

    /// The most problems of one kind that a message lists.
    private static let numListed = 20

    private static func list(_ problems: [TensorProblem], path: String) -> String {
        let count = problems.count == 1 ? "1 problem" : "\(problems.count) problems"
        var lines = ["\(path): \(count) with the stored tensors:"]
        var kinds: [Int] = []
        for problem in problems where !kinds.contains(problem.kind) {
            kinds.append(problem.kind)
        }
        for kind in kinds {
            let same = problems.filter { $0.kind == kind }
            lines += same.prefix(numListed).map { "  \($0)" }
            if same.count > numListed {
                lines.append("  and \(same.count - numListed) more of this kind")
            }
        }
        return lines.joined(separator: "\n")
    }
}

extension TensorProblem: CustomStringConvertible {
    /// One line that names the tensor, what is expected and what is found.
    public var description: String {
        switch self {
        case .missing(let name, let expected):
            return "\(name): missing (expected \(expected))"
        case .unexpected(let name, let shape):
            return "\(name): unexpected (file has \(shape)); nothing reads it"
        case .shape(let name, let expected, let found):
            let isTransposed = expected.count == 2 && expected == found.reversed()
            return "\(name): expected \(expected), file has \(found)"
                + (isTransposed ? "; was the checkpoint transposed?" : "")
        case .dtype(let name, let expected, let found):
            return "\(name): expected \(expected), file has \(found)"
        case .missingShard(let file, let numTensors):
            return "\(file): this shard of \(numTensors) tensors is not in the folder; "
                + "copy or download it"
        case .notInShard(let name, let file):
            return "\(name): the index places it in \(file), which does not hold it"
        case .notInIndex(let name, let file):
            return "\(name): stored in \(file), but the index does not place it there"
        }
    }

    /// Orders and groups problems of the same kind.
    fileprivate var kind: Int {
        switch self {
        case .missingShard: 0
        case .notInShard: 1
        case .notInIndex: 2
        case .missing: 3
        case .unexpected: 4
        case .shape: 5
        case .dtype: 6
        }
    }
}
