/// The largest differences that tests accept, in one place.
package enum Tolerance {
    /// Logits against transformers in float32, absolute.
    package static let logits: Float = 1e-4
    /// A gradient against the reference in float32, relative to its norm.
    package static let gradient = 2e-5
    /// Two ways to compute the same in float32, relative to the norm.
    package static let float32 = 2e-6
    /// A float32 matrix split into singular values and multiplied again, relative to the norm.
    package static let splitProduct = 5e-6
    /// One bfloat16 computation against float32, relative to the norm.
    package static let bfloat16 = 1e-2
    /// A kernel that rounds its operands to bfloat16 and sums in float32, against float64, relative to the norm.
    package static let bfloat16Kernel = 5e-3
    /// The loss of a step in float16 against float32, relative.
    package static let float16 = 2e-3
    /// One float16 computation against float64, relative to the norm.
    package static let float16Values = 1.25e-3
    /// Numbers that are rounded to bfloat16 twice and else computed more precisely, relative to the norm: twice half a unit of 2^-8.
    package static let twiceRoundedToBFloat16 = 3.91e-3
    /// Logits of a small model in float32 against one whose linears round their inputs to 8 bits, relative to the norm.
    package static let int8Inputs = 4e-2
    /// Losses of a kernel whose exponential is a polynomial, against float64, relative to the norm.
    package static let kernelLoss = 3e-5
    /// The loss of one well-fitted token of such a kernel, whose logits are float32, relative.
    package static let wellFittedLoss = 2e-4
    /// What a process may grow by in 10,000 steps that keep nothing: pages that the allocator splits anew.
    package static let memoryGrowthBytes = 4 << 20
    /// The loss of a training step computed in another order in float32, relative.
    package static let trainingLoss = 2e-5
    /// Adapters of a few steps whose sums were taken in another order; Adam amplifies rounding.
    package static let trainedAdapter = 2e-3

    /// `|found - expected| / |expected|` in the Euclidean norm.
    package static func relativeError(_ found: [Float], _ expected: [Float]) -> Double {
        guard found.count == expected.count else { return .infinity }
        var difference = 0.0
        var norm = 0.0
        for (left, right) in zip(found, expected) {
            difference += Double(left - right) * Double(left - right)
            norm += Double(right) * Double(right)
        }
        return norm == 0 ? difference.squareRoot() : (difference / norm).squareRoot()
    }

    /// The largest difference of two elements.
    package static func maxError(_ found: [Float], _ expected: [Float]) -> Float {
        guard found.count == expected.count else { return .infinity }
        return zip(found, expected).reduce(0) { max($0, abs($1.0 - $1.1)) }
    }
}
