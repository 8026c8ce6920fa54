import CKernels
import PEFTLayers
import TestSupport
import Testing
import Torch

/// The fused linear node computes what float64 computes, but for one rounding to the input's dtype.
@Suite(.enabled(if: InstructionSet.avx2.isSupported, "this processor has no fused products"))
struct LinearKernelTests {
    /// What computes: instructions and the dtype of activations.
    struct Arithmetic: Sendable, CustomTestStringConvertible {
        let instructionSet: InstructionSet
        let dtype: DType
        var testDescription: String { "\(instructionSet.name), \(dtype.name)" }

        /// Whether factors are bfloat16 numbers, which come in pairs.
        var hasPairs: Bool { instructionSet == .avx512bf16 && dtype == .bfloat16 }

        /// All that this machine runs.
        static let all = InstructionSet.allCases.filter { $0 != .portable && $0.isSupported }
            .flatMap { set in
                [DType.bfloat16, .float32].map { Arithmetic(instructionSet: set, dtype: $0) }
            }

        /// The largest difference from float64, relative to the norm; bfloat16 numbers are at least rounded.
        var tolerance: Double {
            dtype == .float32 ? Tolerance.float32 : Tolerance.bfloat16Kernel
        }
    }

    struct Case: Sendable, CustomTestStringConvertible {
        let outFeatures: Int
        let inFeatures: Int
        let rank: Int
        let tokens: Int
        var hasBias = false
        var drops = false
        var arithmetic = Arithmetic(instructionSet: .best, dtype: .bfloat16)

        /// The same layer for each arithmetic that takes it.
        var inEachArithmetic: [Case] {
            let isOdd = outFeatures % 2 == 1 || inFeatures % 2 == 1
            return Arithmetic.all.filter { !isOdd || !$0.hasPairs }.map { arithmetic in
                var copy = self
                copy.arithmetic = arithmetic
                return copy
            }
        }

        var testDescription: String {
            "\(arithmetic.testDescription): [\(tokens), \(inFeatures)] -> \(outFeatures), rank \(rank)"
                + (hasBias ? ", bias" : "") + (drops ? ", dropout" : "")
        }
    }

    /// Round shapes and odd ones: below a register, across panels, blocks of tokens and of the depth; ranks beyond 16.
    static let cases = [
        Case(outFeatures: 64, inFeatures: 64, rank: 16, tokens: 64),
        Case(outFeatures: 192, inFeatures: 576, rank: 16, tokens: 130, hasBias: true),
        Case(outFeatures: 66, inFeatures: 70, rank: 5, tokens: 33, drops: true),
        Case(outFeatures: 2, inFeatures: 2, rank: 1, tokens: 1, hasBias: true),
        Case(outFeatures: 130, inFeatures: 34, rank: 40, tokens: 300, hasBias: true, drops: true),
        Case(outFeatures: 100, inFeatures: 6, rank: 3, tokens: 129),
        Case(outFeatures: 62, inFeatures: 1030, rank: 0, tokens: 5, hasBias: true),
        Case(outFeatures: 67, inFeatures: 131, rank: 80, tokens: 129, hasBias: true, drops: true),
    ].flatMap(\.inEachArithmetic)

    /// A layer across panels and blocks of tokens.
    static let wide = Case(
        outFeatures: 192, inFeatures: 576, rank: 16, tokens: 130, hasBias: true
    ).inEachArithmetic

    /// Numbers of a layer, all of them exact in bfloat16.
    struct Layer {
        let arithmetic: Arithmetic
        let input: Tensor
        let weight: Tensor
        let bias: Tensor?
        let a: Tensor
        let b: Tensor
        let kept: Tensor?
        let gradient: Tensor
        static let scale = 0.5

        init(_ subject: Case) throws {
            arithmetic = subject.arithmetic
            func numbers(_ shape: [Int], _ seed: UInt64) throws -> Tensor {
                try Tensor.normal(shape, generator: Generator(seed: seed)).to(.bfloat16)
                    .to(subject.arithmetic.dtype)
            }
            input = try numbers([subject.tokens, subject.inFeatures], 1)
            weight = try numbers([subject.outFeatures, subject.inFeatures], 2).to(.bfloat16)
            bias = subject.hasBias ? try numbers([subject.outFeatures], 3) : nil
            a = try numbers([subject.rank, subject.inFeatures], 4).to(.float32)
            b = try numbers([subject.outFeatures, subject.rank], 5).to(.float32)
            gradient = try numbers([subject.tokens, subject.outFeatures], 6)
            let elements = subject.tokens * subject.inFeatures
            kept =
                subject.drops
                ? try Tensor(
                    (0..<elements).map { Float($0 * 7 % 5 == 0 ? 0 : 1) }, shape: input.shape
                )
                .to(.bool) : nil
        }

        /// The kernel of the layer, for an input of its dtype.
        func kernel(
            for input: Tensor, bias: Tensor?, term: LowRankTerm?, threads: Int = 1
        ) throws -> LinearKernel {
            let frozen = try Parameter(path: "weight", value: weight, isTrainable: false)
            return try #require(
                try LinearKernel(
                    for: input, weight: DenseWeight(frozen), bias: bias, term: term,
                    instructionSet: arithmetic.instructionSet,
                    threads: CKernelsThreads(
                        count: Int32(threads), run: TorchRuntime.runInParallel)))
        }

        /// Output and gradients of input, A and B from the kernel.
        func fused(threads: Int = 1) throws -> [Tensor] {
            let input = try input.detach()
            let (a, b) = (try a.detach(), try b.detach())
            let term = a.shape[0] > 0 ? LowRankTerm(a: a, b: b, scale: Self.scale, kept: kept) : nil
            for leaf in [input] + (term.map { [$0.a, $0.b] } ?? []) {
                try leaf.setRequiresGrad(true)
            }
            let kernel = try kernel(for: input, bias: bias, term: term, threads: threads)
            let output = try #require(try kernel(Recomputable(kept: input)))
            try output.backward(gradient: gradient)
            return try [output.detach(), #require(input.grad)]
                + (term == nil ? [] : [#require(a.grad), #require(b.grad)])
        }

        /// The same in float64 from libtorch's operations.
        func reference() throws -> [Tensor] {
            let wide = try [input, a, b].map { try $0.to(.float64) }
            for leaf in wide { try leaf.setRequiresGrad(true) }
            var output = try wide[0].linear(weight.to(.float64))
            if let bias { output = try output + bias.to(.float64) }
            let seen = try kept.map { try wide[0] * $0.to(.float64) } ?? wide[0]
            if a.shape[0] > 0 {
                output = try output + seen.linear(wide[1]).linear(wide[2]) * Self.scale
            }
            try output.backward(gradient: gradient.to(.float64))
            return try [output.detach(), #require(wide[0].grad)]
                + (a.shape[0] > 0 ? [#require(wide[1].grad), #require(wide[2].grad)] : [])
        }
    }

    @Test(arguments: cases)
    func outputAndGradientsEqualThoseOfFloat64(_ subject: Case) throws {
        let layer = try Layer(subject)
        let names = ["output", "input's gradient", "A's gradient", "B's gradient"]
        for ((name, found), expected) in zip(zip(names, try layer.fused()), try layer.reference()) {
            #expect(found.shape == expected.shape)
            let error = Tolerance.relativeError(try found.floats(), try expected.floats())
            #expect(error < subject.arithmetic.tolerance, "\(name)")
        }
    }

    @Test(arguments: cases)
    func numberOfThreadsDoesNotMatter(_ subject: Case) throws {
        let layer = try Layer(subject)
        #expect(
            try layer.fused().map { try $0.bytes } == layer.fused(threads: 3).map { try $0.bytes })
    }

    /// Sums of float32 numbers have one order on all instruction sets.
    @Test(arguments: cases.filter { !$0.arithmetic.hasPairs })
    func instructionSetDoesNotMatterToProductsOfFloat32Numbers(_ subject: Case) throws {
        var other = subject
        other.arithmetic = Arithmetic(instructionSet: .avx2, dtype: subject.arithmetic.dtype)
        #expect(
            try Layer(subject).fused().map { try $0.bytes }
                == Layer(other).fused().map { try $0.bytes })
    }

    @Test(arguments: wide) func tokenIsComputedAlikeInAnyBatch(_ subject: Case) throws {
        let layer = try Layer(subject)
        let all = try layer.fused()[0]
        let term = LowRankTerm(a: layer.a, b: layer.b, scale: Layer.scale)
        for (first, count) in [(0, 1), (3, 7), (129, 1), (64, 66)] {
            let part = try layer.input.narrow(0, first, count)
            let kernel = try layer.kernel(for: part, bias: layer.bias, term: term)
            let alone = try #require(try kernel(Recomputable(kept: part)))
            #expect(try alone.bytes == all.narrow(0, first, count).contiguous().bytes)
        }
    }

    /// However the segments are cut into batches and in whatever order they come, odd lengths among them.
    @Test(arguments: cases.filter { $0.rank > 0 })
    func gradientsAreTheSameBitsForAnyDivisionOfSegments(_ subject: Case) throws {
        let layer = try Layer(subject)
        let (a, b) = (try layer.a.detach(), try layer.b.detach())
        let parameters = try [a, b].map { try Parameter(path: "x", value: $0, isTrainable: true) }
        let starts = [0, 3, 4, 20, 129, subject.tokens].filter { $0 <= subject.tokens }
        let ends = starts.dropFirst() + [subject.tokens]
        let segments = zip(starts, ends).filter { $0 < $1 }

        func gradients(_ batches: [ArraySlice<(Int, Int)>]) throws -> [[UInt8]] {
            let sums = GradientSums()
            for parameter in parameters { try parameter.value.setGrad(nil) }
            for batch in batches {
                let first = batch[batch.startIndex].0
                let count = batch[batch.endIndex - 1].1 - first
                func part(_ tensor: Tensor) throws -> Tensor {
                    try tensor.narrow(0, first, count).contiguous()
                }
                let input = try part(layer.input)
                let term = LowRankTerm(
                    a: a, b: b, scale: Layer.scale, kept: try layer.kept.map(part))
                let output = try #require(
                    try layer.kernel(for: input, bias: nil, term: term)(
                        Recomputable(kept: input),
                        in: ForwardContext(
                            layout: SequenceLayout(segmentLengths: batch.map { $0.1 - $0.0 }),
                            gradientSums: sums)))
                try output.backward(gradient: part(layer.gradient))
            }
            #expect(a.grad == nil && b.grad == nil)
            try sums.handOver(to: parameters)
            return try [#require(a.grad), #require(b.grad)].map { try $0.bytes }
        }

        let together = try gradients([segments[...]])
        let alone = segments.indices.map { segments[$0...$0] }
        #expect(try gradients(alone.reversed()) == together)
        let middle = segments.count / 2
        if middle > 0 {
            #expect(try gradients([segments[middle...], segments[..<middle]]) == together)
        }
        let expected = try layer.reference().suffix(2)
        for (parameter, expected) in zip(parameters, expected) {
            let found = try #require(parameter.value.grad).floats()
            let error = Tolerance.relativeError(found, try expected.floats())
            #expect(error < subject.arithmetic.tolerance)
        }
    }

    @Test(arguments: wide) func notANumberReachesOutputAndGradients(_ subject: Case) throws {
        let layer = try Layer(subject)
        let values = try layer.input.floats()
        let poisoned = try Tensor(
            values.enumerated().map { $0.offset == 576 * 2 + 5 ? .nan : $0.element },
            shape: layer.input.shape
        ).to(subject.arithmetic.dtype)
        let a = try layer.a.detach()
        try a.setRequiresGrad(true)
        let term = LowRankTerm(a: a, b: layer.b, scale: 1)
        let kernel = try layer.kernel(for: poisoned, bias: nil, term: term)
        let output = try #require(try kernel(Recomputable(kept: poisoned)))
        let rows = try output.detach().floats()
        #expect(rows.indices.allSatisfy { rows[$0].isNaN == ($0 / 192 == 2) })
        try output.backward(gradient: layer.gradient)
        let gradient = try #require(a.grad).floats()
        #expect(gradient.indices.allSatisfy { gradient[$0].isNaN == ($0 % 576 == 5) })
    }

    @Test func whatTheKernelCannotComputeIsLeftToOthers() throws {
        func isTaken(
            _ shape: [Int], _ dtype: DType = .bfloat16, biasDType: DType = .bfloat16,
            on instructionSet: InstructionSet = .avx2
        ) throws -> Bool {
            let value = try Tensor.ones(shape).to(.bfloat16)
            let weight = DenseWeight(try Parameter(path: "w", value: value, isTrainable: false))
            let input = try Tensor.ones([3, shape[1]]).to(dtype)
            return try LinearKernel(
                for: input, weight: weight, bias: Tensor.ones([shape[0]]).to(biasDType), term: nil,
                instructionSet: instructionSet) != nil
        }
        #expect(try isTaken([4, 6]))
        #expect(try isTaken([5, 7]))
        #expect(try !isTaken([4, 6], .float16))
        #expect(try !isTaken([4, 6], .float32, biasDType: .bfloat16))
        #expect(try isTaken([4, 6], .float32, biasDType: .float32))
        #expect(try !isTaken([4, 6], biasDType: .float32))
        #expect(try !isTaken([4, 6], on: .portable))
        for set in [InstructionSet.avx512, .avx512bf16] {
            #expect(try isTaken([4, 6], on: set) == set.isSupported)
            for odd in [[5, 6], [4, 7]] {
                #expect(try isTaken(odd, on: set) == (set == .avx512 && set.isSupported))
            }
            let isTaken = try isTaken([5, 7], .float32, biasDType: .float32, on: set)
            #expect(isTaken == set.isSupported)
        }
    }

    @Test func trainableWeightSuppliesNoPanels() throws {
        let value = try Tensor.ones([4, 6]).to(.bfloat16)
        #expect(
            try DenseWeight(Parameter(path: "w", value: value, isTrainable: true)).panels() == nil)
    }
}
