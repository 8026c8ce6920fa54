import CKernels
import PEFTLayers
import TestSupport
import Testing
import Torch

@Suite struct AttentionTests {
    /// Heads and segments of a batch.
    struct Case: CustomTestStringConvertible {
        let heads: Int
        let keyValueHeads: Int
        let headDim: Int
        let lengths: [Int]

        var testDescription: String { "\(heads)/\(keyValueHeads) x \(headDim), \(lengths)" }
        var layout: SequenceLayout { SequenceLayout(segmentLengths: lengths) }
        var scale: Double { 1 / Double(headDim).squareRoot() }

        /// Query, key, value.
        func inputs(seed: UInt64 = 1) throws -> [Tensor] {
            let numTokens = layout.numTokens
            return try [
                .random([numTokens, heads, headDim], seed: seed),
                .random([numTokens, keyValueHeads, headDim], seed: seed + 1),
                .random([numTokens, keyValueHeads, headDim], seed: seed + 2),
            ]
        }

        func causal(
            _ inputs: [Tensor], window: Int? = nil, softCap: Double? = nil
        ) throws -> Tensor {
            try Attention.causal(
                query: inputs[0], key: inputs[1], value: inputs[2], layout: layout, scale: scale,
                window: window, softCap: softCap)
        }

        /// Scores, mask, softmax, sum: segment by segment in plain operations.
        func reference(
            _ inputs: [Tensor], window: Int? = nil, softCap: Double? = nil
        ) throws -> Tensor {
            let group = heads / keyValueHeads
            let shared = try Tensor((0..<heads).map { Int64($0 / group) }, shape: [heads])
            var outputs: [Tensor] = []
            var start = 0
            for length in lengths {
                let query = try inputs[0].narrow(0, start, length).transposed(0, 1)
                let key = try inputs[1].narrow(0, start, length).indexSelected(1, shared)
                let value = try inputs[2].narrow(0, start, length).indexSelected(1, shared)
                var scores = try query.matmul(key.permuted([1, 2, 0])) * scale
                if let softCap { scores = try (scores * (1 / softCap)).tanh() * softCap }
                let weights = try (scores + mask(length, window ?? length)).softmax()
                outputs.append(try weights.matmul(value.transposed(0, 1)).transposed(0, 1))
                start += length
            }
            return try .concatenated(outputs)
        }

        private func mask(_ length: Int, _ window: Int) throws -> Tensor {
            let values = (0..<length).flatMap { row in
                (0..<length).map { $0 <= row && row - $0 < window ? 0 : -Float.infinity }
            }
            return try Tensor(values, shape: [length, length])
        }
    }

    static let cases = [
        Case(heads: 1, keyValueHeads: 1, headDim: 2, lengths: [1]),
        Case(heads: 4, keyValueHeads: 2, headDim: 8, lengths: [5]),
        Case(heads: 6, keyValueHeads: 2, headDim: 4, lengths: [3, 3, 3]),
        Case(heads: 9, keyValueHeads: 3, headDim: 6, lengths: [1, 7, 7, 2, 1, 1]),
        Case(heads: 3, keyValueHeads: 3, headDim: 5, lengths: [4, 1, 1, 4]),
        Case(heads: 8, keyValueHeads: 1, headDim: 16, lengths: [33, 130]),
        // Longer than the kernel's blocks of queries and of keys.
        Case(heads: 2, keyValueHeads: 1, headDim: 64, lengths: [1100, 2]),
    ]

    @Test(arguments: cases)
    func outputAndGradientsAreThoseOfMaskedSoftmax(_ shape: Case) throws {
        let inputs = try shape.inputs()
        let found = try Differentiated(inputs) { try shape.causal($0) }
        let expected = try Differentiated(inputs) { try shape.reference($0) }
        try found.expectClose(to: expected)
    }

    @Test(
        arguments: cases,
        [(1, nil), (3, nil), (40, nil), (nil, 0.7), (3, 0.7)] as [(Int?, Double?)])
    func windowsAndCapsAreThoseOfMaskedSoftmax(
        _ shape: Case, options: (window: Int?, softCap: Double?)
    ) throws {
        let inputs = try shape.inputs()
        let found = try Differentiated(inputs) {
            try shape.causal($0, window: options.window, softCap: options.softCap)
        }
        let expected = try Differentiated(inputs) {
            try shape.reference($0, window: options.window, softCap: options.softCap)
        }
        // In a window of one token softmax is a constant: gradients of query and key are zero but for rounding.
        guard options.window == 1 else { return try found.expectClose(to: expected) }
        try expectClose(found.output, expected.output)
        try expectClose(
            #require(found.gradients[2]), #require(expected.gradients[2]), Tolerance.gradient)
        for gradient in found.gradients.prefix(2) {
            #expect(try #require(gradient).abs().max().item() < 1e-5)
        }
    }

    @Test(arguments: [(7, nil), (nil, 0.7), (7, 0.7)] as [(Int?, Double?)])
    func bfloat16HasWindowsAndCapsToo(options: (window: Int?, softCap: Double?)) throws {
        let shape = Case(heads: 8, keyValueHeads: 2, headDim: 16, lengths: [33, 5, 70])
        let inputs = try shape.inputs().map { try $0.to(.bfloat16) }
        let found = try Differentiated(inputs) {
            try shape.causal($0, window: options.window, softCap: options.softCap)
        }
        let expected = try Differentiated(inputs.map { try $0.to(.float32) }) {
            try shape.reference($0, window: options.window, softCap: options.softCap)
        }
        #expect(found.output.dtype == .bfloat16)
        try found.expectClose(
            to: expected, output: Tolerance.bfloat16, gradient: 2 * Tolerance.bfloat16)
    }

    @Test(arguments: [(nil, nil), (9, nil), (nil, 0.7), (9, 0.7), (200, nil)] as [(Int?, Double?)])
    func newestTokenSeesAWindowAndCappedScores(
        options: (window: Int?, softCap: Double?)
    ) throws {
        let shape = Case(heads: 6, keyValueHeads: 2, headDim: 10, lengths: [71])
        let inputs = try shape.inputs()
        let found = try Attention.newest(
            query: inputs[0].narrow(0, 70, 1), key: inputs[1], value: inputs[2],
            scale: shape.scale, window: options.window, softCap: options.softCap)
        let expected = try shape.reference(
            inputs, window: options.window, softCap: options.softCap)
        try expectClose(found, expected.narrow(0, 70, 1))
    }

    @Test func cappedAttentionOfFrozenKeysDifferentiatesTheQuery() throws {
        let shape = Case(heads: 4, keyValueHeads: 2, headDim: 6, lengths: [5, 2])
        let inputs = try shape.inputs()
        let found = try Differentiated(inputs, isTrainable: [true, false, false]) {
            try shape.causal($0, softCap: 0.5)
        }
        let expected = try Differentiated(inputs, isTrainable: [true, false, false]) {
            try shape.reference($0, softCap: 0.5)
        }
        try found.expectClose(to: expected)
    }

    @Test(arguments: cases)
    func bfloat16KeepsItsDTypeAndIsNearFloat32(_ shape: Case) throws {
        let inputs = try shape.inputs().map { try $0.to(.bfloat16) }
        let found = try Differentiated(inputs) { try shape.causal($0) }
        let expected = try Differentiated(inputs.map { try $0.to(.float32) }) {
            try shape.reference($0)
        }
        #expect(found.output.dtype == .bfloat16)
        #expect(found.gradients.allSatisfy { $0?.dtype == .bfloat16 })
        try found.expectClose(
            to: expected, output: Tolerance.bfloat16, gradient: Tolerance.bfloat16)
    }

    /// A sum's gradient is one number expanded, and a transposed tensor has strides of its own.
    @Test func stridesDoNotMatter() throws {
        let shape = Case(heads: 4, keyValueHeads: 2, headDim: 6, lengths: [5, 5, 3])
        func run(_ attend: ([Tensor]) throws -> Tensor) throws -> [Tensor?] {
            let leaves = try shape.inputs().map { try $0.transposed(0, 2).contiguous() }
            for leaf in leaves { try leaf.setRequiresGrad(true) }
            try attend(leaves.map { try $0.transposed(0, 2) }).sum().backward()
            return leaves.map(\.grad)
        }
        let found = try run { try shape.causal($0) }
        for (gradient, expected) in zip(found, try run { try shape.reference($0) }) {
            let expected = try #require(expected)
            // The queries' gradient of a sum of softmax-weighted means is small, the values' is not.
            try expectClose(#require(gradient), expected, Tolerance.gradient)
        }
    }

    @Test func gradientsOfSomeInputsOnly() throws {
        let shape = Case(heads: 4, keyValueHeads: 2, headDim: 6, lengths: [5, 2])
        let inputs = try shape.inputs()
        let all = try Differentiated(inputs) { try shape.causal($0) }
        let some = try Differentiated(inputs, isTrainable: [true, false, true]) {
            try shape.causal($0)
        }
        #expect(some.gradients[1] == nil)
        try expectClose(#require(some.gradients[0]), #require(all.gradients[0]))
        try expectClose(#require(some.gradients[2]), #require(all.gradients[2]))
    }

    @Test func tokenSeesItsOwnSegmentAndNothingLater() throws {
        let shape = Case(heads: 2, keyValueHeads: 1, headDim: 4, lengths: [4, 5, 4])
        let inputs = try shape.inputs()
        let before = try shape.causal(inputs)
        // Token 6 is the third of the second segment.
        for input in inputs {
            try input.narrow(0, 6, 1).fillInPlace(9)
        }
        let after = try shape.causal(inputs)
        for token in 0..<13 {
            let isEqual = try before.select(0, token).isEqual(to: after.select(0, token))
            #expect(isEqual == !(6..<9).contains(token), "token \(token)")
        }
    }

    @Test(arguments: [DType.float32, .bfloat16])
    func newestTokenAttendsAsTheLastOfAll(dtype: DType) throws {
        let shape = Case(heads: 6, keyValueHeads: 2, headDim: 10, lengths: [71])
        let inputs = try shape.inputs().map { try $0.to(dtype) }
        let found = try Attention.newest(
            query: inputs[0].narrow(0, 70, 1), key: inputs[1], value: inputs[2],
            scale: shape.scale)
        let expected = try shape.causal(inputs).narrow(0, 70, 1)
        #expect(found.dtype == dtype)
        try expectClose(
            found, expected, dtype == .float32 ? Tolerance.float32 : Tolerance.bfloat16)
    }

    struct NewestCase: Sendable, CustomTestStringConvertible {
        let heads: Int
        let keyValueHeads: Int
        let headDim: Int
        let numTokens: Int
        var testDescription: String {
            "\(heads) heads, \(keyValueHeads) shared, size \(headDim), \(numTokens) tokens"
        }
    }

    /// One key, pieces of 256 keys and what is left of one, groups beyond four heads, sizes that are no multiple of a register.
    static let newestCases = [
        NewestCase(heads: 9, keyValueHeads: 3, headDim: 64, numTokens: 700),
        NewestCase(heads: 7, keyValueHeads: 1, headDim: 40, numTokens: 257),
        NewestCase(heads: 4, keyValueHeads: 4, headDim: 10, numTokens: 1),
        NewestCase(heads: 12, keyValueHeads: 2, headDim: 256, numTokens: 18),
        NewestCase(heads: 2, keyValueHeads: 1, headDim: 33, numTokens: 512),
    ]

    @Test(
        .enabled(
            if: InstructionSet.avx512bf16.isSupported,
            "the kernel needs products of bfloat16 numbers, which this processor lacks"),
        arguments: newestCases)
    func newestTokenOfACacheAttendsAsInFloat64(_ shape: NewestCase) throws {
        func numbers(_ shape: [Int], _ seed: UInt64) throws -> Tensor {
            try Tensor.normal(shape, generator: Generator(seed: seed)).to(.bfloat16)
        }
        let keyShape = [shape.numTokens, shape.keyValueHeads, shape.headDim]
        let query = try numbers([1, shape.heads, shape.headDim], 1)
        let (key, value) = (try numbers(keyShape, 2), try numbers(keyShape, 3))
        let cached = try KeyValueCache().append(layer: 0, keys: key, values: value)
        let scale = 0.3
        let outputs = try [1, 3].map { threads in
            try AttentionKernel.newest(
                query: query, key: cached.keys, value: cached.values, scale: scale,
                threads: CKernelsThreads(count: Int32(threads), run: TorchRuntime.runInParallel))
        }
        #expect(outputs[0].shape == query.shape)
        #expect(try outputs[0].bytes == outputs[1].bytes)
        let group = shape.heads / shape.keyValueHeads
        func repeated(_ states: Tensor) throws -> Tensor {
            let heads = try (0..<shape.heads).map { try states.select(1, $0 / group).unsqueezed(0) }
            return try Tensor.concatenated(heads).to(.float64)  // [H, N, D]
        }
        let wide = try query.to(.float64).transposed(0, 1)  // [H, 1, D]
        let scores = try wide.matmul(repeated(key).transposed(1, 2)) * scale
        let expected = try scores.softmax().matmul(repeated(value)).transposed(0, 1)
        let error = Tolerance.relativeError(
            try outputs[0].floats(), try expected.contiguous().floats())
        #expect(error < Tolerance.bfloat16Kernel)
    }

    @Test(arguments: InstructionSet.allCases.filter(\.isSupported))
    func newestTokenAttendsAlikeOnEveryInstructionSet(_ instructionSet: InstructionSet) throws {
        let shape = Case(heads: 6, keyValueHeads: 2, headDim: 16, lengths: [40])
        let inputs = try shape.inputs().map { try $0.to(.bfloat16) }
        let found = try Attention.newest(
            query: inputs[0].narrow(0, 39, 1), key: inputs[1], value: inputs[2],
            scale: shape.scale, instructionSet: instructionSet)
        let expected = try shape.causal(inputs.map { try $0.to(.float32) }).narrow(0, 39, 1)
        try expectClose(found, expected.to(.bfloat16), Tolerance.bfloat16)
    }

    @Test(arguments: [
        // Query, key and value heads; tokens of the three; tokens of the layout.
        ([3, 2, 2], [4, 4, 4], 4), ([2, 3, 3], [4, 4, 4], 4), ([4, 2, 4], [4, 4, 4], 4),
        ([2, 2, 2], [4, 4, 4], 5), ([2, 2, 2], [4, 4, 4], 3), ([2, 2, 2], [4, 3, 4], 4),
        ([2, 2, 2], [4, 4, 5], 4),
    ])
    func shapesThatDoNotFitAreAnError(heads: [Int], tokens: [Int], numTokens: Int) throws {
        let inputs = try zip(heads, tokens).map { try Tensor.ones([$1, $0, 4]) }
        #expect(throws: TorchError.self) {
            _ = try Attention.causal(
                query: inputs[0], key: inputs[1], value: inputs[2],
                layout: SequenceLayout(segmentLengths: [numTokens]), scale: 1)
        }
    }

    @Test(arguments: [([3, 2, 2], 4), ([2, 3, 3], 4), ([2, 2, 1], 4), ([2, 2, 2], 5)])
    func newestRefusesShapesThatDoNotFit(heads: [Int], numValues: Int) throws {
        #expect(throws: TorchError.self) {
            _ = try Attention.newest(
                query: .ones([1, heads[0], 4]), key: .ones([4, heads[1], 4]),
                value: .ones([numValues, heads[2], 4]), scale: 1)
        }
    }
}
