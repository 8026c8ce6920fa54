import Testing
import Torch

/// How far a result may be from its reference, by dtype and kind of operation.
enum Tolerance {
    /// A chain of a few small float32 matrix products, relative to the largest element.
    static let float32Products = 2e-6
    /// The same in bfloat16, against float32.
    static let bfloat16Products = 2e-2
}

/// Records an issue if the largest difference exceeds the tolerance times the largest reference element (at least 1).
func expectClose(
    _ actual: Tensor?, _ expected: Tensor, _ tolerance: Double, _ what: String,
    sourceLocation: SourceLocation = #_sourceLocation
) throws {
    let actual = try #require(actual, "\(what) is missing", sourceLocation: sourceLocation)
    #expect(actual.shape == expected.shape, "\(what)", sourceLocation: sourceLocation)
    let reference = try expected.floats()
    let largest = reference.map { Double($0.magnitude) }.max() ?? 0
    let difference = try zip(actual.floats(), reference).map { Double(($0 - $1).magnitude) }.max()
    #expect(
        difference ?? .infinity <= tolerance * max(largest, 1), "\(what)",
        sourceLocation: sourceLocation)
}
