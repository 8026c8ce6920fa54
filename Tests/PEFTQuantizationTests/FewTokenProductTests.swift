import CKernels
import Foundation
import PEFTLayers
import PEFTQuantization
import TestSupport
import Testing
import Torch

/// The products of generation compute what float64 computes, for every storage, but for one rounding to bfloat16.
@Suite(
    .enabled(
        if: InstructionSet.avx512bf16.isSupported,
        "the kernel needs products of bfloat16 numbers, which this processor lacks"))
struct FewTokenProductTests {
    enum Storage: String, CaseIterable, Sendable {
        case dense, nf4, fp4
        case nestedNF4 = "nf4, nested"
        case nestedFP4 = "fp4, nested"
    }

    struct Case: Sendable, CustomTestStringConvertible {
        let storage: Storage
        /// outFeatures, inFeatures.
        let shape: [Int]
        let blockSize: Int
        let rank: Int
        let hasBias: Bool
        var testDescription: String {
            "\(storage.rawValue) \(shape), block \(blockSize), rank \(rank)"
                + (hasBias ? ", bias" : "")
        }
    }

    /// Whole blocks a row and parts of them, blocks longer than rows, rows that are no multiple of a register, of an item, of four.
    static let cases = Storage.allCases.flatMap { storage in
        [
            ([64, 64], 64, 0, false), ([192, 576], 64, 16, true), ([66, 1536], 128, 5, false),
            ([34, 320], 4096, 0, true), ([130, 70], 64, 40, true), ([2, 2], 32, 1, false),
            ([38, 1056], 32, 3, true), ([10, 514], 64, 0, false),
        ].map { shape, blockSize, rank, hasBias in
            Case(
                storage: storage, shape: shape, blockSize: blockSize, rank: rank, hasBias: hasBias)
        }
    }

    /// A layer, its operands exact in bfloat16 but for the weight's elements.
    struct Layer {
        let weight: any LinearWeight
        let bias: Tensor?
        let term: LowRankTerm?

        init(_ subject: Case) throws {
            func numbers(_ shape: [Int], _ seed: UInt64) throws -> Tensor {
                try Tensor.normal(shape, generator: Generator(seed: seed)).to(.bfloat16)
            }
            let (rows, columns) = (subject.shape[0], subject.shape[1])
            let elements = try numbers(subject.shape, 2)
            let isNested = subject.storage == .nestedNF4 || subject.storage == .nestedFP4
            let isFP4 = subject.storage == .fp4 || subject.storage == .nestedFP4
            if subject.storage == .dense {
                weight = DenseWeight(
                    try Parameter(path: "weight", value: elements, isTrainable: false))
            } else {
                let config = QuantizationConfig(
                    quantType: isFP4 ? .fp4 : .nf4, blockSize: subject.blockSize,
                    usesDoubleQuantization: isNested)
                weight = FourBitWeight(try FourBitTensor(quantizing: elements, config: config))
            }
            bias = subject.hasBias ? try numbers([rows], 3) : nil
            term =
                subject.rank == 0
                ? nil
                : LowRankTerm(
                    a: try numbers([subject.rank, columns], 4).to(.float32),
                    b: try numbers([rows, subject.rank], 5).to(.float32), scale: 0.5)
        }

        func input(tokens: Int) throws -> Tensor {
            try Tensor.normal([tokens, weight.inFeatures], generator: Generator(seed: 1))
                .to(.bfloat16)
        }

        func kernel(for input: Tensor, threads: Int = 1) throws -> LinearKernel {
            try #require(
                try LinearKernel(
                    for: input, weight: weight, bias: bias, term: term,
                    threads: CKernelsThreads(
                        count: Int32(threads), run: TorchRuntime.runInParallel)))
        }

        func output(of input: Tensor, threads: Int = 1) throws -> Tensor {
            try #require(try kernel(for: input, threads: threads).outputOfFew(input))
        }

        /// The same in float64 from libtorch's operations.
        func reference(_ input: Tensor) throws -> Tensor {
            let wide = try input.to(.float64)
            var output = try wide.linear(weight.dequantized().to(.float64))
            if let bias { output = try output + bias.to(.float64) }
            guard let term else { return output }
            return try output
                + wide.linear(term.a.to(.float64)).linear(term.b.to(.float64)) * term.scale
        }
    }

    @Test(arguments: cases)
    func outputEqualsThatOfFloat64(_ subject: Case) throws {
        let layer = try Layer(subject)
        for tokens in 1...LinearKernel.mostFewTokens {
            let input = try layer.input(tokens: tokens)
            let (found, expected) = (try layer.output(of: input), try layer.reference(input))
            #expect(found.dtype == .bfloat16)
            #expect(found.shape == expected.shape)
            let error = Tolerance.relativeError(try found.floats(), try expected.floats())
            #expect(error < Tolerance.bfloat16Kernel, "\(tokens) tokens")
        }
    }

    @Test(arguments: cases)
    func tokenIsComputedAlikeAmongOthersAndOnAnyThreads(_ subject: Case) throws {
        let layer = try Layer(subject)
        let input = try layer.input(tokens: 8)
        let all = try layer.output(of: input)
        let threaded = try layer.output(of: input, threads: 3)
        #expect(threaded.bytes == all.bytes)
        for (first, count) in [(0, 1), (7, 1), (1, 2), (2, 3), (4, 4), (0, 5), (1, 7)] {
            let part = try layer.output(of: input.narrow(0, first, count))
            let expected = try all.narrow(0, first, count).contiguous()
            #expect(part.bytes == expected.bytes)
        }
    }

    @Test(arguments: Storage.allCases)
    func panelsDecodeToWhatTheStorageDecodesTo(_ storage: Storage) throws {
        // An identity as input gives back the weight, by the product for many tokens.
        let subject = Case(
            storage: storage, shape: [6, 96], blockSize: 32, rank: 0, hasBias: false)
        let layer = try Layer(subject)
        let ones = (0..<96 * 96).map { Float($0 / 96 == $0 % 96 ? 1 : 0) }
        let identity = try Tensor(ones, shape: [96, 96]).to(.bfloat16)
        let found = try #require(try layer.kernel(for: identity)(Recomputable(kept: identity)))
        let expected = try layer.weight.dequantized().to(.bfloat16).transposed().contiguous()
        #expect(found.bytes == expected.bytes)
    }

    @Test func manyTokensAndDroppedElementsAreLeftToPanels() throws {
        let layer = try Layer(Self.cases[1])
        let nine = try layer.input(tokens: 9)
        #expect(try layer.kernel(for: nine).outputOfFew(nine) == nil)
        let term = try #require(layer.term)
        let one = try layer.input(tokens: 1)
        let dropping = LowRankTerm(
            a: term.a, b: term.b, scale: 1, kept: try Tensor.ones(one.shape).to(.bool))
        let kernel = try #require(
            try LinearKernel(for: one, weight: layer.weight, bias: nil, term: dropping))
        #expect(try kernel.outputOfFew(one) == nil)
    }

    @Test(arguments: [Storage.dense, .nestedNF4])
    func notANumberReachesItsTokenOnly(_ storage: Storage) throws {
        let subject = Case(
            storage: storage, shape: [64, 192], blockSize: 64, rank: 4, hasBias: true)
        let layer = try Layer(subject)
        let values = try layer.input(tokens: 3).floats()
        let poisoned = try Tensor(
            values.enumerated().map { $0.offset == 192 + 7 ? .nan : $0.element }, shape: [3, 192]
        ).to(.bfloat16)
        for (index, value) in try layer.output(of: poisoned).floats().enumerated() {
            #expect(value.isNaN == (index / 64 == 1))
        }
    }

    @Test func onlyGenerationTakesFewTokensApart() throws {
        let layer = try Layer(Self.cases[9])
        let input = try layer.input(tokens: 2)
        let linear = Linear(path: "layer", weight: layer.weight)
        let kernel = try #require(
            try LinearKernel(for: input, weight: layer.weight, bias: nil, term: nil))
        let layout = SequenceLayout(segmentLengths: [2])
        let generated = try linear(
            input, context: ForwardContext(layout: layout, cache: KeyValueCache()))
        let trained = try linear(input, context: ForwardContext(layout: layout))
        let (few, many) = (
            try #require(try kernel.outputOfFew(input)),
            try #require(try kernel(Recomputable(kept: input)))
        )
        #expect(generated.bytes == few.bytes)
        #expect(trained.bytes == many.bytes)
    }
}
