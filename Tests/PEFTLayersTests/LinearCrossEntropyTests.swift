import CKernels
import Foundation
import PEFTLayers
import TestSupport
import Testing
import Torch

/// Hidden states, a head and targets in numbers of bfloat16, with the same computed in float64.
struct HeadCase {
    /// Those of this machine that have the kernel.
    static let instructionSets = InstructionSet.allCases.filter {
        $0 != .portable && $0.isSupported
    }

    /// What the kernel is run on.
    var instructionSet = InstructionSet.fastest
    let hidden: Tensor
    let weight: Tensor
    let targets: [Int32]

    /// Logits of about unit size; every fourth token has no target.
    init(numTokens: Int, hiddenSize: Int, vocabularySize: Int) throws {
        hidden = try Tensor.random([numTokens, hiddenSize], seed: 1).to(.bfloat16)
        let scale = 1 / Double(hiddenSize).squareRoot()
        weight = try (Tensor.random([vocabularySize, hiddenSize], seed: 2) * scale).to(.bfloat16)
        targets = (0..<numTokens).map { $0 % 4 == 2 ? -100 : Int32($0 * 37 % vocabularySize) }
    }

    /// The same for an instruction set.
    func with(on instructionSet: InstructionSet) -> HeadCase {
        var copy = self
        copy.instructionSet = instructionSet
        return copy
    }

    /// Hidden states along the row of their label, so far that `logit` is the label's logit.
    init(logits: [Double], hiddenSize: Int, vocabularySize: Int) throws {
        let plain = try HeadCase(
            numTokens: logits.count, hiddenSize: hiddenSize, vocabularySize: vocabularySize)
        weight = plain.weight
        targets = logits.indices.map { Int32($0 * 37 % vocabularySize) }
        let labels = try Tensor(targets.map { Int64($0) }, shape: [logits.count])
        let rows = try weight.to(.float64).indexSelected(0, labels)
        let squares = try (rows * rows).sum([1], keepDims: true)
        let scale = try Tensor(logits.map { Float($0) }, shape: [logits.count, 1]).to(.float64)
        hidden = try (rows * (scale / squares)).to(.bfloat16)
    }

    var positions: [Int64] { targets.indices.filter { targets[$0] >= 0 }.map { Int64($0) } }
    var labels: [Int64] { targets.filter { $0 >= 0 }.map { Int64($0) } }

    /// Loss of each target and gradient of their sum for each, by libtorch in float64.
    func reference() throws -> (losses: Tensor, gradient: Tensor) {
        let rows = try Tensor(positions, shape: [positions.count])
        let selected = try hidden.to(.float64).indexSelected(0, rows).detach()
        try selected.setRequiresGrad(true)
        let losses = try selected.linear(weight.to(.float64)).crossEntropy(
            Tensor(labels, shape: [labels.count]))
        try losses.sum().backward()
        return (try losses.detach(), try #require(selected.grad))
    }

    /// The same of every target where nothing is subtracted from almost the same: `log(1 + r)` and `sum of r[v] (W[v] - W[label])`
    /// over `1 + r`, with `r[v] = exp(z[v] - z[label])` of the other tokens and r their sum.
    func preciseReference() throws -> [(loss: Double, gradient: [Double])] {
        let size = hidden.shape[1]
        let (states, rows) = (try hidden.floats(), try weight.floats())
        func dot(_ token: Int, _ row: Int) -> Double {
            (0..<size).reduce(0.0) {
                $0 + Double(states[token * size + $1]) * Double(rows[row * size + $1])
            }
        }
        return zip(positions, labels).map { position, label in
            let (token, label) = (Int(position), Int(label))
            let score = dot(token, label)
            var sum = 0.0
            var gradient = Array(repeating: 0.0, count: size)
            for row in 0..<weight.shape[0] where row != label {
                let ratio = exp(dot(token, row) - score)
                sum += ratio
                for channel in 0..<size {
                    let difference = rows[row * size + channel] - rows[label * size + channel]
                    gradient[channel] += ratio * Double(difference)
                }
            }
            return (log1p(sum), gradient.map { $0 / (1 + sum) })
        }
    }

    func kernel() throws -> LinearCrossEntropy {
        try #require(
            LinearCrossEntropy(
                hiddenStates: hidden, weight: weight, instructionSet: instructionSet))
    }

    /// The kernel's results.
    func computed(
        withGradient: Bool = true, numThreads: Int32 = 1
    ) throws -> (losses: Tensor, gradient: Tensor?) {
        let kernel = try kernel()
        var threads = CKernelsThreads.libtorch
        threads.count = numThreads
        return try kernel(
            positions: positions, labels: labels, withGradient: withGradient, threads: threads)
    }

    /// Loss and gradient of the hidden states as the model gets them, with the kernels of an instruction set.
    func differentiated(_ instructionSet: InstructionSet) throws -> Differentiated {
        try Differentiated([hidden]) { leaves in
            try CrossEntropy.losses(
                hiddenStates: leaves[0], targets: targets, weight: weight,
                instructionSet: instructionSet
            ) { slice throws(TorchError) in try slice.to(weight.dtype).linear(weight) }.sum
        }
    }
}

/// `relativeError` of two tensors of any floating-point dtype.
private func relativeError(_ found: Tensor, _ expected: Tensor) throws -> Double {
    let (found, expected) = (try found.to(.float64), try expected.to(.float64))
    return try (found - expected).norm().item() / expected.norm().item()
}

@Suite(.enabled(if: InstructionSet.avx2.isSupported, "the processor has no fused products"))
struct LinearCrossEntropyTests {
    private static let shapes = [
        (1, 2, 2), (3, 34, 13), (17, 30, 127), (40, 64, 128), (64, 64, 129), (90, 66, 300),
        (700, 40, 77), (200, 200, 1_000), (130, 576, 3_001),
    ]

    @Test(
        "losses and gradients are near those in float64", arguments: shapes,
        HeadCase.instructionSets)
    func nearFloat64(
        _ shape: (numTokens: Int, hiddenSize: Int, vocabularySize: Int),
        on instructionSet: InstructionSet
    ) throws {
        let subject = try HeadCase(
            numTokens: shape.numTokens, hiddenSize: shape.hiddenSize,
            vocabularySize: shape.vocabularySize
        ).with(on: instructionSet)
        let found = try subject.computed()
        let expected = try subject.reference()
        #expect(found.losses.dtype == .float32)
        #expect(found.losses.shape == expected.losses.shape)
        let lossError = try relativeError(found.losses, expected.losses)
        #expect(lossError <= Tolerance.kernelLoss)
        let gradient = try #require(found.gradient)
        #expect(gradient.dtype == .bfloat16)
        #expect(gradient.shape == expected.gradient.shape)
        #expect(try relativeError(gradient, expected.gradient) <= Tolerance.twiceRoundedToBFloat16)
    }

    /// Sums of float32 numbers have one order on all instruction sets.
    @Test(arguments: shapes + [(33, 67, 130)])
    func instructionSetDoesNotMatterToProductsOfFloat32Numbers(
        _ shape: (numTokens: Int, hiddenSize: Int, vocabularySize: Int)
    ) throws {
        let subject = try HeadCase(
            numTokens: shape.numTokens, hiddenSize: shape.hiddenSize,
            vocabularySize: shape.vocabularySize)
        let expected = try subject.with(on: .avx2).computed()
        for set in HeadCase.instructionSets where set != .avx512bf16 {
            let found = try subject.with(on: set).computed()
            #expect(try found.losses.isEqual(to: expected.losses))
            #expect(try #require(found.gradient).isEqual(to: #require(expected.gradient)))
        }
    }

    @Test(arguments: HeadCase.instructionSets)
    func nodeIsNearerToFloat64ThanLibtorch(on instructionSet: InstructionSet) throws {
        let subject = try HeadCase(numTokens: 200, hiddenSize: 192, vocabularySize: 2_000)
        let found = try subject.differentiated(instructionSet)
        let libtorch = try subject.differentiated(.portable)
        let exact = try Differentiated([subject.hidden.to(.float64)]) { leaves in
            let rows = try Tensor(subject.positions, shape: [subject.positions.count])
            return try leaves[0].linear(subject.weight.to(.float64)).indexSelected(0, rows)
                .crossEntropySum(Tensor(subject.labels, shape: [subject.labels.count]))
        }
        #expect(
            try relativeError(found.output, exact.output)
                <= relativeError(libtorch.output, exact.output))
        let expected = try #require(exact.gradients[0])
        let error = try relativeError(#require(found.gradients[0]), expected)
        #expect(try error <= relativeError(#require(libtorch.gradients[0]), expected))
        #expect(error <= Tolerance.bfloat16)
    }

    @Test(arguments: HeadCase.instructionSets)
    func wellFittedTokensKeepLossAndGradientPrecise(on instructionSet: InstructionSet) throws {
        let logits = stride(from: 2.0, through: 60, by: 0.5).map { $0 }
        let subject = try HeadCase(logits: logits, hiddenSize: 64, vocabularySize: 500)
            .with(on: instructionSet)
        let found = try subject.computed()
        let expected = try subject.preciseReference()
        #expect(expected.contains { $0.loss > 0.5e-4 && $0.loss < 2e-4 })
        #expect(expected.contains { $0.loss < 1e-14 })
        let gradients = try #require(found.gradient)
        for (row, loss) in try found.losses.floats().enumerated() {
            let target = expected[row]
            let lossError = abs(Double(loss) / target.loss - 1)
            #expect(lossError <= Tolerance.wellFittedLoss, "loss \(target.loss)")
            let scale = Float(1 / target.loss)
            let error = try Tolerance.relativeError(
                gradients.select(0, row).floats().map { $0 * scale },
                target.gradient.map { Float($0) * scale })
            #expect(error <= Tolerance.bfloat16, "gradient at loss \(target.loss)")
        }
    }

    @Test(arguments: [70, 700], HeadCase.instructionSets)
    func bitsDoNotDependOnThreadsNorRepetition(
        numTokens: Int, on instructionSet: InstructionSet
    ) throws {
        let subject = try HeadCase(numTokens: numTokens, hiddenSize: 64, vocabularySize: 300)
            .with(on: instructionSet)
        let first = try subject.computed()
        for numThreads: Int32 in [1, 3, 3] {
            let again = try subject.computed(numThreads: numThreads)
            #expect(try again.losses.isEqual(to: first.losses))
            #expect(try #require(again.gradient).isEqual(to: #require(first.gradient)))
        }
    }

    @Test func lossesAreTheSameBitsWithoutGradient() throws {
        let subject = try HeadCase(numTokens: 200, hiddenSize: 64, vocabularySize: 300)
        let evaluated = try subject.computed(withGradient: false)
        #expect(evaluated.gradient == nil)
        #expect(try evaluated.losses.isEqual(to: subject.computed().losses))
    }

    @Test(arguments: [(96, 300), (576, 2_000)], HeadCase.instructionSets)
    func targetDoesNotDependOnTheOthers(
        _ shape: (hiddenSize: Int, vocabularySize: Int), on instructionSet: InstructionSet
    ) throws {
        let subject = try HeadCase(
            numTokens: 150, hiddenSize: shape.hiddenSize, vocabularySize: shape.vocabularySize
        ).with(on: instructionSet)
        let all = try subject.computed()
        let kernel = try subject.kernel()
        for range in [0..<1, 60..<66, 70..<90, 80..<112] {
            let part = try kernel(
                positions: Array(subject.positions[range]), labels: Array(subject.labels[range]),
                withGradient: true)
            let expected = try all.losses.narrow(0, range.lowerBound, range.count)
            #expect(try part.losses.isEqual(to: expected))
            let gradient = try #require(all.gradient)
                .narrow(0, range.lowerBound, range.count)
            #expect(try #require(part.gradient).isEqual(to: gradient))
        }
    }

    @Test(arguments: [Float.nan, .infinity, -.infinity], HeadCase.instructionSets)
    func numberThatIsNotFiniteReachesItsTarget(
        value: Float, on instructionSet: InstructionSet
    ) throws {
        let subject = try HeadCase(numTokens: 40, hiddenSize: 64, vocabularySize: 300)
            .with(on: instructionSet)
        try subject.hidden.select(0, 5).narrow(0, 7, 1).fillInPlace(Double(value))
        let found = try subject.computed()
        let target = try #require(subject.positions.firstIndex(of: 5))
        for (index, loss) in try found.losses.floats().enumerated() {
            #expect(loss.isFinite == (index != target))
            let row = try #require(found.gradient).select(0, index).floats()
            #expect(row.allSatisfy { $0.isFinite == (index != target) })
        }
    }

    @Test(arguments: [0, 150, 299], HeadCase.instructionSets)
    func notANumberInTheHeadReachesAllTargets(
        row: Int, on instructionSet: InstructionSet
    ) throws {
        let subject = try HeadCase(numTokens: 40, hiddenSize: 64, vocabularySize: 300)
            .with(on: instructionSet)
        try subject.weight.select(0, row).narrow(0, 7, 1).fillInPlace(.nan)
        let found = try subject.computed()
        #expect(try found.losses.floats().allSatisfy { $0.isNaN })
        #expect(try #require(found.gradient).floats().allSatisfy { $0.isNaN })
    }

    @Test func transposedHiddenStatesAndHeadAreRead() throws {
        let subject = try HeadCase(numTokens: 40, hiddenSize: 64, vocabularySize: 300)
        let kernel = try #require(
            LinearCrossEntropy(
                hiddenStates: subject.hidden.transposed().contiguous().transposed(),
                weight: subject.weight.transposed().contiguous().transposed(),
                instructionSet: subject.instructionSet))
        let found = try kernel(
            positions: subject.positions, labels: subject.labels, withGradient: false)
        #expect(try found.losses.isEqual(to: subject.computed().losses))
    }

    @Test func kernelIsForBFloat16AndInPairsForEvenSizes() throws {
        func takes(
            _ hiddenSize: Int, _ hidden: DType = .bfloat16, _ weight: DType = .bfloat16,
            _ instructionSet: InstructionSet = .avx2, weightSize: Int = 6
        ) throws -> Bool {
            try LinearCrossEntropy(
                hiddenStates: .zeros([3, hiddenSize], dtype: hidden),
                weight: .zeros([5, weightSize], dtype: weight), instructionSet: instructionSet)
                != nil
        }
        #expect(try takes(6))
        #expect(try !takes(4))
        #expect(try !takes(6, .float32, .float32))
        #expect(try !takes(6, .float32))
        #expect(try !takes(6, .bfloat16, .float32))
        #expect(try !takes(6, .float16, .float16))
        #expect(try !takes(6, .bfloat16, .bfloat16, .portable))
        #expect(try takes(7, weightSize: 7))
        for set in [InstructionSet.avx512, .avx512bf16] {
            #expect(try takes(6, .bfloat16, .bfloat16, set) == set.isSupported)
        }
        #expect(try !takes(7, .bfloat16, .bfloat16, .avx512bf16, weightSize: 7))
    }
}
