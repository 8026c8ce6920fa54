import Foundation
import PEFTLayers
import TestSupport
import Testing
import Torch

/// Outputs and gradients against float64, and no further from it than libtorch's operations in the same dtype.
@Suite struct ElementwiseAccuracyTests {
    private static let shapes = [[1, 1], [3, 7], [67, 33], [40, 64], [33, 576], [5, 2048]]

    /// Output and gradients.
    private struct Values {
        var tensors: [Tensor]

        /// What libtorch's operations and its autograd give.
        init(
            _ inputs: [Tensor], gradient: Tensor, dtype: DType,
            _ body: ([Tensor]) throws -> Tensor
        ) throws {
            let leaves = try inputs.map { try $0.detach().to(dtype).clone() }
            for leaf in leaves { try leaf.setRequiresGrad(true) }
            let output = try body(leaves)
            try output.backward(gradient: gradient.to(dtype))
            tensors = [try output.detach()] + leaves.compactMap(\.grad)
        }

        init(_ tensors: [Tensor]) { self.tensors = tensors }

        func errors(_ reference: Values) throws -> [Double] {
            try zip(tensors, reference.tensors).map { found, expected in
                Tolerance.relativeError(try found.floats(), try expected.floats())
            }
        }
    }

    private let tolerances: [DType: Double] = [
        .float32: Tolerance.float32, .bfloat16: Tolerance.bfloat16,
        .float16: Tolerance.float16Values,
    ]

    private func expectAccurate(
        _ found: Values, inputs: [Tensor], gradient: Tensor, _ body: ([Tensor]) throws -> Tensor
    ) throws {
        let dtype = gradient.dtype
        let reference = try Values(inputs, gradient: gradient, dtype: .float64, body)
        let libtorch = try Values(inputs, gradient: gradient, dtype: dtype, body)
        #expect(found.tensors.count == reference.tensors.count)
        let errors = try found.errors(reference)
        for (error, theirs) in zip(errors, try libtorch.errors(reference)) {
            #expect(error <= tolerances[dtype] ?? 0, "\(errors)")
            // Of few numbers either may be the lucky one.
            guard gradient.numElements >= 1000 else { continue }
            #expect(error <= max(theirs * 1.05, Tolerance.float32), "\(errors)")
        }
    }

    /// Not of one channel, whose gradient is nothing but what rounding leaves of a difference.
    @Test(arguments: ElementwiseKernelsTests.dtypes, shapes.filter { $0[1] > 1 })
    func rmsNorm(_ dtype: DType, _ shape: [Int]) throws {
        let epsilon = 1e-5
        let inputs = [
            try Tensor.random(shape, seed: 1).to(dtype),
            try (Tensor.random([shape[1]], seed: 2) * 0.2 + 1).to(dtype),
        ]
        let gradient = try Tensor.random(shape, seed: 3).to(dtype)
        let kernels = ElementwiseKernels()
        let norm = try kernels.rmsNorm(inputs[0], weight: inputs[1], epsilon: epsilon)
        let found = Values([
            norm.output,
            try kernels.rmsNormInputGradient(
                outputGradient: gradient, input: inputs[0], weight: inputs[1],
                inverse: norm.inverse),
            try kernels.rmsNormWeightGradient(
                outputGradient: gradient, input: inputs[0], inverse: norm.inverse),
        ])
        try expectAccurate(found, inputs: inputs, gradient: gradient) { inputs in
            let wide = inputs[0].dtype == .float64 ? inputs[0] : try inputs[0].to(.float32)
            let inverse = try (wide.power(2).mean([-1], keepDims: true) + epsilon).rsqrt()
            return try (wide * inverse).to(inputs[0].dtype) * inputs[1]
        }
    }

    @Test(arguments: ElementwiseKernelsTests.dtypes, shapes)
    func swiGLU(_ dtype: DType, _ shape: [Int]) throws {
        let inputs = [
            try (Tensor.random(shape, seed: 1) * 3).to(dtype),
            try Tensor.random(shape, seed: 2).to(dtype),
        ]
        let gradient = try Tensor.random(shape, seed: 3).to(dtype)
        let kernels = ElementwiseKernels()
        let gradients = try kernels.swiGLUGradients(
            outputGradient: gradient, gate: inputs[0], up: inputs[1])
        let output = try kernels.swiGLU(gate: inputs[0], up: inputs[1])
        try expectAccurate(
            Values([output, gradients.gate, gradients.up]), inputs: inputs, gradient: gradient
        ) { try $0[0].silu() * $0[1] }
    }

    /// Rotation is two products and a sum in float32, rounded once: the same bits as libtorch's in that order.
    @Test(arguments: ElementwiseKernelsTests.dtypes, [2, 6, 32, 64, 80])
    func rotationIsRoundedOnce(_ dtype: DType, headDim: Int) throws {
        let half = headDim / 2
        // From subnormal numbers to results that overflow in float16.
        for scale in [1.0, 1e-7, 3e-40, 1e4] {
            let states = try (Tensor.random([7, 3, headDim], seed: 1) * scale).to(dtype)
            let cosine = try Tensor.random([7, 1, half], seed: 2).to(dtype)
            let sine = try Tensor.random([7, 1, half], seed: 3).to(dtype)
            let (c, s) = (try cosine.to(.float32), try sine.to(.float32))
            let a = try states.narrow(2, 0, half).to(.float32)
            let b = try states.narrow(2, half, half).to(.float32)
            for isInverse in [false, true] {
                let signed = isInverse ? try s.negated() : s
                let expected = try Tensor.concatenated(
                    [a * c - b * signed, b * c + a * signed], dim: 2
                ).to(dtype)
                let found = try ElementwiseKernels().rotate(
                    states, cosine: cosine, sine: sine, isInverse: isInverse)
                #expect(try found.bytes == expected.bytes, "scale \(scale)")
            }
        }
    }

    /// Every number of 16 bits is widened and narrowed to itself.
    @Test(arguments: [DType.bfloat16, .float16], ElementwiseKernelsTests.instructionSets)
    func numbersSurviveRotationByZero(
        _ dtype: DType, _ instructionSet: InstructionSet
    ) throws {
        let all = try Tensor.empty([65536, 1, 1], dtype: dtype)
        all.withUnsafeMutableBytes { bytes in
            let numbers = bytes.bindMemory(to: UInt16.self)
            for index in numbers.indices { numbers[index] = UInt16(index) }
        }
        // (x, 0) rotated by zero is (x - 0, 0 + 0 x).
        let states = try Tensor.concatenated([all, .zeros([65536, 1, 1], dtype: dtype)], dim: 2)
        let rotated = try ElementwiseKernels(instructionSet: instructionSet).rotate(
            states, cosine: .ones([65536, 1, 1], dtype: dtype),
            sine: .zeros([65536, 1, 1], dtype: dtype), isInverse: false
        ).narrow(2, 0, 1)
        let found = try rotated.bytes
        let expected = try all.bytes
        let isNaN = try all.floats().map(\.isNaN)
        for (index, isFoundNaN) in try rotated.floats().map(\.isNaN).enumerated() {
            let number = 2 * index..<2 * index + 2
            guard isFoundNaN == isNaN[index], isNaN[index] || found[number] == expected[number]
            else {
                Issue.record("\(index) became \(found[number])")
                return
            }
        }
    }

    // MARK: - silu

    private func silu(_ numbers: [Float]) throws -> [Float] {
        let gate = try Tensor(numbers, shape: [numbers.count])
        return try ElementwiseKernels().swiGLU(gate: gate, up: .ones([numbers.count])).floats()
    }

    @Test func siluIsAccurateInAllItsRange() throws {
        let numbers = (0...200_000).map { Float(-88 + 0.000_88 * Double($0)) }
        let worst = zip(numbers, try silu(numbers)).map { x, found in
            let expected = Double(x) / (1 + exp(-Double(x)))
            return expected == 0 ? 0 : abs(Double(found) / expected - 1)
        }.max()
        #expect(try #require(worst) <= 1e-6)
    }

    /// Infinity, NaN, signs of zero, overflow of the exponential.
    @Test func siluAtTheEndsIsLibtorchs() throws {
        let numbers: [Float] = [
            -.infinity, -1e30, -100, -89.5, -0.0, 0, 0x1p-140, -0x1p-140, 100, 1e30, 3e38,
            .infinity,
            .nan,
        ]
        let inputs = [
            try Tensor(numbers, shape: [numbers.count]), try Tensor.ones([numbers.count]),
        ]
        let gradient = try Tensor.ones([numbers.count])
        let libtorch = try Values(inputs, gradient: gradient, dtype: .float32) {
            try $0[0].silu() * $0[1]
        }
        let gradients = try ElementwiseKernels().swiGLUGradients(
            outputGradient: gradient, gate: inputs[0], up: inputs[1])
        let found = [try silu(numbers), try gradients.gate.floats(), try gradients.up.floats()]
        for (found, expected) in zip(found, try libtorch.tensors.map { try $0.floats() }) {
            #expect(found.map(\.isNaN) == expected.map(\.isNaN))
            for (found, expected) in zip(found, expected) where !expected.isNaN {
                #expect(found == expected && found.sign == expected.sign)
            }
        }
    }
}
