import Foundation
public import Torch

/// Reading a file of known content, strictly in both directions.
extension SafetensorsFile {
    /// Compares the stored tensors with those that are needed, reading no data.
    ///
    /// - Parameters:
    ///   - expected: the shape of every needed tensor by its name.
    ///   - ignored: the shapes of tensors that may be stored but are not needed.
    ///   - dtypes: the element types of tensors for which not any floating-point type will do.
    /// - Throws: `CheckpointError.tensors` with every missing, mis-shaped, unexpected tensor, and every one whose elements
    ///   are not floating-point, or not of the type that is asked for.
    public func validate(
        expected: [String: [Int]], ignoring ignored: [String: [Int]] = [:],
        dtypes: [String: DType] = [:]
    ) throws(CheckpointError) {
        var problems: [TensorProblem] = []
        for (name, shape) in expected.sorted(by: { $0.key < $1.key }) where entry(name) == nil {
            problems.append(.missing(name: name, expected: shape))
        }
        for entry in entries.sorted(by: { $0.name < $1.name }) {
            guard let shape = expected[entry.name] ?? ignored[entry.name] else {
                problems.append(.unexpected(name: entry.name, shape: entry.shape))
                continue
            }
            if entry.shape != shape {
                problems.append(.shape(name: entry.name, expected: shape, found: entry.shape))
            } else if let dtype = dtypes[entry.name] {
                guard entry.dtype.dtype != dtype else { continue }
                problems.append(
                    .dtype(
                        name: entry.name, expected: SafetensorsDType(dtype).rawValue,
                        found: entry.dtype.rawValue))
            } else if entry.dtype.dtype?.isFloatingPoint != true {
                problems.append(
                    .dtype(
                        name: entry.name, expected: "F32, F16 or BF16", found: entry.dtype.rawValue)
                )
            }
        }
        guard problems.isEmpty else { throw .tensors(path: file.url.path, problems: problems) }
    }

    /// Reads the tensors that are needed.
    ///
    /// - Parameters:
    ///   - expected: the shape of every needed tensor by its name.
    ///   - ignored: the shapes of tensors that may be stored but are not needed.
    ///   - dtypes: the element types of tensors for which not any floating-point type will do.
    /// - Returns: the needed tensors by name, in the element types of the file; copies, so training may change them.
    /// - Throws: what `validate(expected:ignoring:dtypes:)` throws; `TorchError`.
    public func tensors(
        expected: [String: [Int]], ignoring ignored: [String: [Int]] = [:],
        dtypes: [String: DType] = [:]
    ) throws -> [String: Tensor] {
        try validate(expected: expected, ignoring: ignored, dtypes: dtypes)
        var result: [String: Tensor] = [:]
        for entry in entries where expected[entry.name] != nil {
            result[entry.name] = try tensor(entry).clone()
        }
        return result
    }
}
