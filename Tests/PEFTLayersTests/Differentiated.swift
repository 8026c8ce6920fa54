import TestSupport
import Testing
import Torch

/// Output and input gradients of a computation, for comparison with another way to compute the same.
struct Differentiated {
    let output: Tensor
    /// One for each input; nil where the computation did not give one.
    let gradients: [Tensor?]

    /// Runs `body` on leaves with the values of `inputs`, then backward with a gradient of random numbers.
    ///
    /// - Parameters:
    ///   - inputs: the values; their history is ignored.
    ///   - isTrainable: which inputs require grad; all if nil.
    ///   - body: the computation.
    /// - Throws: what `body` or libtorch throws.
    init(
        _ inputs: [Tensor], isTrainable: [Bool]? = nil, _ body: ([Tensor]) throws -> Tensor
    ) throws {
        let leaves = try inputs.map { try $0.detach().clone() }
        for (leaf, isTrainable) in zip(leaves, isTrainable ?? inputs.map { _ in true }) {
            try leaf.setRequiresGrad(isTrainable)
        }
        let output = try body(leaves)
        try output.backward(
            gradient: .random(output.shape, seed: 1234).to(output.dtype))
        self.output = try output.detach()
        gradients = leaves.map(\.grad)
    }

    /// Records an issue where output or gradients are further from another's than the tolerances.
    func expectClose(
        to expected: Differentiated, output outputTolerance: Double = Tolerance.float32,
        gradient gradientTolerance: Double = Tolerance.gradient,
        sourceLocation: SourceLocation = #_sourceLocation
    ) throws {
        try PEFTLayersTests.expectClose(
            output, expected.output, outputTolerance, "output", sourceLocation: sourceLocation)
        for (index, pair) in zip(gradients, expected.gradients).enumerated() {
            let name: Comment = "gradient of input \(index)"
            guard let reference = pair.1 else {
                #expect(pair.0 == nil, name, sourceLocation: sourceLocation)
                continue
            }
            let found = try #require(pair.0, name, sourceLocation: sourceLocation)
            try PEFTLayersTests.expectClose(
                found, reference, gradientTolerance, name, sourceLocation: sourceLocation)
        }
    }
}

/// Records an issue unless shapes are equal and the relative error is within the tolerance.
func expectClose(
    _ found: Tensor, _ expected: Tensor, _ tolerance: Double = Tolerance.float32,
    _ name: Comment = "values", sourceLocation: SourceLocation = #_sourceLocation
) throws {
    #expect(found.shape == expected.shape, name, sourceLocation: sourceLocation)
    let error = Tolerance.relativeError(try found.floats(), try expected.floats())
    #expect(error <= tolerance, name, sourceLocation: sourceLocation)
}

extension Tensor {
    /// Normal float32 numbers that depend on shape and seed alone.
    static func random(_ shape: [Int], seed: UInt64) throws -> Tensor {
        try .normal(shape, generator: Generator(seed: seed))
    }
}
