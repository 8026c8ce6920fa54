public import Torch

/// Answers with shapes only: no tensor of it takes memory.
///
/// A model built on it tells which paths and shapes it needs, before any file is read.
public final class ShapeSource: ParameterSource {
    /// The paths that were asked for, with their shapes.
    public private(set) var shapes: [String: [Int]] = [:]

    /// Makes a source without records.
    public init() {}

    /// A view of one zero, expanded to the shape.
    public func tensor(at path: String, shape: [Int]) throws -> Tensor {
        shapes[path] = shape
        return try Tensor.zeros([1]).expanded(shape)
    }

    /// Notes the shape; only an empty range has elements to give.
    public func elements(_ range: Range<Int>, at path: String, shape: [Int]) throws -> Tensor {
        shapes[path] = shape
        return try Tensor.zeros([1]).expanded([range.count])
    }
}
