import PEFTLayers
import TestSupport
import Testing
import Torch

/// Every instruction set and any number of threads give the same bits; those of rows and elements do not depend on others.
@Suite struct ElementwiseKernelsTests {
    static let dtypes: [DType] = [.float32, .bfloat16, .float16]
    static let instructionSets = InstructionSet.allCases.filter(\.isSupported)
    /// Odd and round, below and above the sixteen lanes and the 64 elements of a step of a sum.
    static let shapes = [[1, 1], [3, 7], [2, 16], [67, 33], [5, 64], [130, 100], [9, 576]]

    /// Results of all kernels on numbers that depend on the shape alone, by name.
    private static func results(
        _ shape: [Int], _ dtype: DType, _ kernels: ElementwiseKernels
    ) throws -> [String: [UInt8]] {
        func numbers(_ shape: [Int], seed: UInt64) throws -> Tensor {
            try Tensor.random(shape, seed: seed).to(dtype)
        }
        let (x, dy, up) = try (
            numbers(shape, seed: 1), numbers(shape, seed: 2), numbers(shape, seed: 3)
        )
        let weight = try numbers([shape[1]], seed: 4)
        let norm = try kernels.rmsNorm(x, weight: weight, epsilon: 1e-5)
        let normGradient = try kernels.rmsNormInputGradient(
            outputGradient: dy, input: x, weight: weight, inverse: norm.inverse)
        let weightGradient = try kernels.rmsNormWeightGradient(
            outputGradient: dy, input: x, inverse: norm.inverse)
        let gated = try kernels.swiGLU(gate: x, up: up)
        let gradients = try kernels.swiGLUGradients(outputGradient: dy, gate: x, up: up)
        let states = try numbers([shape[0], 3, 2 * shape[1]], seed: 5)
        let angles = try (
            numbers([shape[0], 1, shape[1]], seed: 6), numbers([shape[0], 1, shape[1]], seed: 7)
        )
        func rotated(isInverse: Bool) throws -> Tensor {
            try kernels.rotate(states, cosine: angles.0, sine: angles.1, isInverse: isInverse)
        }
        let updated = try (1...4).map { try Tensor.random(shape, seed: UInt64(10 + $0)) }
        try kernels.updateByAdamW(
            updated[0], gradient: updated[1], moments: (updated[2], updated[3].abs()),
            constants: AdamWConstants(
                firstWeight: 0.1, secondDecay: 0.99, secondWeight: 0.01, rootScale: 1.5,
                epsilon: 1e-6, decay: 0.999, rate: 1e-2))
        return [
            "updated": try updated[0].bytes, "first moment": try updated[2].bytes,
            "norm": try norm.output.bytes, "inverse": try norm.inverse.bytes,
            "norm gradient": try normGradient.bytes,
            "weight gradient": try weightGradient.bytes,
            "gated": try gated.bytes, "gate gradient": try gradients.gate.bytes,
            "up gradient": try gradients.up.bytes, "rotated": try rotated(isInverse: false).bytes,
            "rotated back": try rotated(isInverse: true).bytes,
        ]
    }

    @Test(arguments: instructionSets.filter { $0 != .portable }, dtypes)
    func instructionSetsGiveTheSameBits(_ instructionSet: InstructionSet, _ dtype: DType) throws {
        for shape in Self.shapes {
            let portable = try Self.results(
                shape, dtype, ElementwiseKernels(instructionSet: .portable))
            let faster = try Self.results(
                shape, dtype, ElementwiseKernels(instructionSet: instructionSet))
            for (name, bytes) in portable {
                #expect(faster[name] == bytes, "\(name) of \(shape)")
            }
        }
    }

    @Test(arguments: dtypes)
    func numberOfThreadsDoesNotMatter(_ dtype: DType) throws {
        for shape in Self.shapes {
            let one = try Self.results(
                shape, dtype, ElementwiseKernels(parallelism: BlockParallelism(maxThreads: 1)))
            let three = try Self.results(
                shape, dtype,
                ElementwiseKernels(
                    parallelism: BlockParallelism(maxThreads: 3, minElementsPerThread: 1)))
            for (name, bytes) in one {
                #expect(three[name] == bytes, "\(name) of \(shape)")
            }
        }
    }

    @Test(arguments: dtypes)
    func rowIsNormalizedAlikeInAnyBatch(_ dtype: DType) throws {
        let kernels = ElementwiseKernels()
        let input = try Tensor.random([20, 100], seed: 1).to(dtype)
        let weight = try Tensor.random([100], seed: 2).to(dtype)
        let all = try kernels.rmsNorm(input, weight: weight, epsilon: 1e-5)
        for row in [0, 7, 19] {
            let alone = try kernels.rmsNorm(
                input.narrow(0, row, 1), weight: weight, epsilon: 1e-5)
            #expect(try alone.output.bytes == all.output.narrow(0, row, 1).bytes)
            #expect(try alone.inverse.bytes == all.inverse.narrow(0, row, 1).bytes)
        }
    }

    // MARK: - Not a number

    @Test(arguments: instructionSets, dtypes)
    func notANumberReachesWhatDependsOnIt(
        _ instructionSet: InstructionSet, _ dtype: DType
    ) throws {
        let kernels = ElementwiseKernels(instructionSet: instructionSet)
        // In whole vectors, in the part after them, and in a row that has no whole one.
        for (width, position) in [(100, 3), (100, 70), (100, 99), (7, 0)] {
            let shape = [3, width]
            var numbers = try Tensor.random(shape, seed: 1).floats()
            numbers[width + position] = .nan
            let bad = try Tensor(numbers, shape: shape).to(dtype)
            let good = try Tensor.random(shape, seed: 2).to(dtype)
            let weight = try Tensor.random([width], seed: 3).to(dtype)
            func expectNaN(
                _ tensor: Tensor, _ name: Comment,
                at isExpected: (_ row: Int, _ column: Int) -> Bool
            ) throws {
                let found = try tensor.floats().map(\.isNaN)
                let expected = (0..<3 * width).map { isExpected($0 / width, $0 % width) }
                #expect(found == expected, name)
            }
            func isThere(row: Int, column: Int) -> Bool { row == 1 && column == position }

            let norm = try kernels.rmsNorm(bad, weight: weight, epsilon: 1e-5)
            try expectNaN(norm.output, "norm") { row, _ in row == 1 }
            let inverse = try kernels.rmsNorm(good, weight: weight, epsilon: 1e-5).inverse
            let gradient = try kernels.rmsNormInputGradient(
                outputGradient: bad, input: good, weight: weight, inverse: inverse)
            try expectNaN(gradient, "norm gradient") { row, _ in row == 1 }
            let weightGradient = try kernels.rmsNormWeightGradient(
                outputGradient: bad, input: good, inverse: inverse)
            #expect(
                try weightGradient.floats().indices { $0.isNaN }
                    == RangeSet([position..<position + 1]))

            try expectNaN(kernels.swiGLU(gate: bad, up: good), "gate", at: isThere)
            try expectNaN(kernels.swiGLU(gate: good, up: bad), "up", at: isThere)
            let kept = try kernels.dropoutMask(shape, numDropped: 65535, seed: 1)
            try expectNaN(kernels.masked(bad, kept: kept), "dropped", at: isThere)
            let ofGate = try kernels.swiGLUGradients(outputGradient: good, gate: bad, up: good)
            try expectNaN(ofGate.gate, "gradient of a bad gate", at: isThere)
            try expectNaN(ofGate.up, "gradient of up at a bad gate", at: isThere)
            let ofGradient = try kernels.swiGLUGradients(outputGradient: bad, gate: good, up: good)
            try expectNaN(ofGradient.gate, "gate of a bad gradient", at: isThere)
            try expectNaN(ofGradient.up, "up of a bad gradient", at: isThere)
        }
    }

    // MARK: - Dropout

    /// The numbers themselves are frozen: a mask drawn again after an update of the program must be the same.
    @Test(arguments: instructionSets, [1, 3])
    func maskIsThatOfSplitMix64(_ instructionSet: InstructionSet, maxThreads: Int) throws {
        let kernels = ElementwiseKernels(
            instructionSet: instructionSet,
            parallelism: BlockParallelism(maxThreads: maxThreads, minElementsPerThread: 1))
        let seed: UInt64 = 0xfedc_ba98_7654_3210
        for count in [0, 1, 3, 4, 31, 32, 33, 100, 1001] {
            for numDropped: UInt16 in [0, 1, 30000, 65535] {
                let expected = (0..<count).map { index in
                    let number = Self.splitMix64(seed, index / 4) >> (16 * UInt64(index % 4))
                    return UInt8(UInt16(truncatingIfNeeded: number) >= numDropped ? 1 : 0)
                }
                let found = try kernels.dropoutMask([count], numDropped: numDropped, seed: seed)
                #expect(try found.bytes == expected, "\(count) elements, \(numDropped)")
            }
        }
    }

    /// Output number `index` of the generator.
    private static func splitMix64(_ seed: UInt64, _ index: Int) -> UInt64 {
        var bits = seed &+ UInt64(index + 1) &* 0x9e37_79b9_7f4a_7c15
        bits = (bits ^ (bits >> 30)) &* 0xbf58_476d_1ce4_e5b9
        bits = (bits ^ (bits >> 27)) &* 0x94d0_49bb_1331_11eb
        return bits ^ (bits >> 31)
    }

    /// Outputs of the generator with seed 0 as its authors' program prints them.
    @Test func firstOutputsAreTheKnownOnes() {
        #expect(Self.splitMix64(0, 0) == 0xe220_a839_7b1d_cdaf)
        #expect(Self.splitMix64(0, 1) == 0x6e78_9e6a_a1b9_65f4)
    }

    @Test(arguments: instructionSets, dtypes)
    func maskedIsTheProductWithTheMask(
        _ instructionSet: InstructionSet, _ dtype: DType
    ) throws {
        for shape in Self.shapes {
            let kernels = ElementwiseKernels(instructionSet: instructionSet)
            let kept = try kernels.dropoutMask(shape, numDropped: 30000, seed: 5)
            let input = try Tensor.random(shape, seed: 1).to(dtype)
            #expect(try kernels.masked(input, kept: kept).bytes == (input * kept).bytes)
        }
    }

    @Test func masksOfAnotherShapeAreAnError() throws {
        let kernels = ElementwiseKernels()
        let kept = try kernels.dropoutMask([2, 3], numDropped: 0, seed: 1)
        #expect(throws: TorchError.self) { _ = try kernels.masked(.zeros([3, 2]), kept: kept) }
    }

    // MARK: - Refusals

    @Test func dtypesThatDifferAreAnError() throws {
        let kernels = ElementwiseKernels()
        let wide = try Tensor.zeros([2, 4])
        let narrow = try Tensor.zeros([2, 4], dtype: .bfloat16)
        #expect {
            _ = try kernels.swiGLU(gate: wide, up: narrow)
        } throws: { error in
            "\(error)" == """
                SwiGLU(float32[2, 4], bfloat16[2, 4]): expected one dtype for all, \
                float32, bfloat16 or float16
                """
        }
        let double = try Tensor.zeros([2, 4], dtype: .float64)
        #expect(throws: TorchError.self) { _ = try kernels.swiGLU(gate: double, up: double) }
    }

    @Test func dryRunGivesShapesAndTouchesNothing() throws {
        let peak = try DryRun.peak {
            let input = try Tensor.empty([6, 10], dtype: .bfloat16)
            let weight = try Tensor.empty([10], dtype: .bfloat16)
            let norm = try ElementwiseKernels().rmsNorm(input, weight: weight, epsilon: 1e-5)
            #expect(norm.output.shape == [6, 10])
            #expect(norm.inverse.shape == [6])
        }
        // Input, weight, output and inverse, in steps of 64 bytes, and nothing else.
        let expected = 128 + 64 + 128 + 64
        #expect(peak.values.reduce(0, +) == expected)
    }
}

extension Tensor {
    /// The elements' memory, row-major.
    var bytes: [UInt8] {
        get throws { try contiguous().withUnsafeBytes { Array($0) } }
    }
}
