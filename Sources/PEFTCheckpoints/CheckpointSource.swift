public import PEFTLayers
package import PEFTQuantization
public import Torch

/// The parameters of a stored model, strict in both directions.
///
/// `validate(expected:)` compares all names and shapes before anything is read; `verifyAllConsumed` says after
/// construction what the model did not ask for. Names are Hugging Face's, with all their prefixes: a checkpoint
/// without the "model." prefix does not match, and the error lists both sides.
public final class CheckpointSource: ParameterSource {
    private let store: any TensorStore
    private var consumed: Set<String> = []
    /// Elements that were read so far, each as often as it was.
    package private(set) var numElementsRead = 0

    /// A source over stored tensors.
    init(_ store: any TensorStore) {
        self.store = store
    }

    /// The names of all stored tensors, sorted.
    public var names: [String] { store.shapes.keys.sorted() }

    /// Says whether a tensor is stored at `path`.
    public func contains(_ path: String) -> Bool { store.shapes[path] != nil }

    /// The shape of the tensor at `path`; nil if none is stored.
    package func shape(of path: String) -> [Int]? { store.shapes[path] }

    /// Whether the tensor at `path` is stored in pieces, one for each expert and module.
    package func isPieced(_ path: String) -> Bool { store.isPieced(path) }

    /// The element type of the numbers at `path`, where the file has plain numbers; nil where it has codes or nothing.
    package func plainDType(of path: String) -> DType? {
        SafetensorsDType(rawValue: store.storage(of: path))?.dtype
    }

    /// Reads the tensor at `path` in the element type of the file; quantized blocks become float32.
    ///
    /// - Parameters:
    ///   - path: the Hugging Face name.
    ///   - shape: the shape that the model needs.
    /// - Returns: the tensor; over the mapped file where the file has plain elements, so nothing may write to it.
    /// - Throws: `CheckpointError.tensors` if it is missing or has another shape or no floating-point elements.
    public func tensor(at path: String, shape: [Int]) throws -> Tensor {
        try elements(0..<shape.reduce(1, *), at: path, shape: shape).reshape(shape)
    }

    /// Reads some elements of the tensor at `path`, and no more of the file than they take.
    ///
    /// - Throws: as ``tensor(at:shape:)``.
    public func elements(_ range: Range<Int>, at path: String, shape: [Int]) throws -> Tensor {
        if let problem = problem(at: path, expected: shape) {
            throw CheckpointError.tensors(path: store.path, problems: [problem])
        }
        consumed.insert(path)
        numElementsRead += range.count
        return try store.load(range, of: path)
    }

    /// The names of the weights that are stored in codes of bitsandbytes, and how; nil if there are none.
    package var quantizedLayers: (paths: Set<String>, storage: QuantizedStorage)? {
        let stored = names.compactMap { name in store.quantizedParts(of: name).map { (name, $0) } }
        guard let first = stored.first else { return nil }
        return (Set(stored.map(\.0)), first.1.storage)
    }

    /// The element type that the numbers at `path` had before they were quantized to the codes that are stored; nil for others.
    package func quantizedDType(of path: String) -> DType? {
        store.quantizedParts(of: path)?.sourceDType
    }

    /// The weight at `path`, if it is stored in codes.
    ///
    /// - Throws: `CheckpointError.tensors` if it has another shape.
    package func quantizedParts(of path: String, shape: [Int]) throws -> QuantizedParts? {
        guard let parts = store.quantizedParts(of: path) else { return nil }
        if let problem = problem(at: path, expected: shape) {
            throw CheckpointError.tensors(path: store.path, problems: [problem])
        }
        consumed.insert(path)
        return parts
    }

    /// Compares what a model needs with what is stored, reading no data.
    ///
    /// - Parameter expected: the shape of every parameter by its name.
    /// - Throws: `CheckpointError.tensors` with every missing, mis-shaped, mis-typed and unexpected tensor.
    public func validate(expected: [String: [Int]]) throws {
        var problems = expected.sorted { $0.key < $1.key }.compactMap {
            problem(at: $0.key, expected: $0.value)
        }
        problems += try unexpected(besides: { expected[$0] != nil })
        guard problems.isEmpty else {
            throw CheckpointError.tensors(path: store.path, problems: problems)
        }
    }

    /// Checks that every stored tensor was read, apart from those known to be harmless.
    ///
    /// - Throws: `CheckpointError.tensors` with every tensor that nothing read.
    public func verifyAllConsumed() throws {
        let problems = try unexpected(besides: consumed.contains)
        guard problems.isEmpty else {
            throw CheckpointError.tensors(path: store.path, problems: problems)
        }
    }

    private func problem(at path: String, expected: [Int]) -> TensorProblem? {
        guard let found = store.shapes[path] else {
            return .missing(name: path, expected: expected)
        }
        guard found == expected else {
            return .shape(name: path, expected: expected, found: found)
        }
        guard store.isFloatingPoint(path) else {
            return .dtype(
                name: path, expected: "F32, F16 or BF16", found: store.storage(of: path))
        }
        return nil
    }

    private func unexpected(besides isKnown: (String) -> Bool) throws -> [TensorProblem] {
        try names.filter { try !isKnown($0) && !store.isHarmless($0) }.map {
            .unexpected(name: $0, shape: store.shapes[$0] ?? [])
        }
    }
}
