import CKernels
import PEFTLayers
import TestSupport
import Testing
import Torch

@Suite(
    .enabled(
        if: InstructionSet.avx512bf16.isSupported, "this processor has no bfloat16 products"))
struct AttentionKernelTests {
    /// Heads, segments and window of a batch.
    struct Case: CustomTestStringConvertible {
        let heads: Int
        let keyValueHeads: Int
        let headDim: Int
        let lengths: [Int]
        var window: Int?

        var testDescription: String {
            "\(heads)/\(keyValueHeads) x \(headDim), \(lengths), window \(window ?? 0)"
        }
        var layout: SequenceLayout { SequenceLayout(segmentLengths: lengths) }
        var scale: Double { 1 / Double(headDim).squareRoot() }

        /// Query, key, value and the output's gradient, bfloat16.
        func operands(seed: UInt64 = 1) throws -> [Tensor] {
            try [heads, keyValueHeads, keyValueHeads, heads].enumerated().map { index, heads in
                try .random([layout.numTokens, heads, headDim], seed: seed + UInt64(index))
                    .to(.bfloat16)
            }
        }

        /// Output and gradients by the kernel itself.
        func byKernel(_ operands: [Tensor], threads: CKernelsThreads = .libtorch) throws -> [Tensor]
        {
            let kernel = AttentionKernel(
                layout: layout, scale: scale, window: window, threads: threads)
            let (output, logSumExp) = try kernel.forward(
                query: operands[0], key: operands[1], value: operands[2])
            let gradients = try kernel.backward(
                gradient: operands[3], query: operands[0], key: operands[1], value: operands[2],
                output: output, logSumExp: logSumExp)
            return [output, gradients.query, gradients.key, gradients.value]
        }

        /// Output and gradients by ``Attention``.
        func byAttention(
            _ operands: [Tensor], _ instructionSet: InstructionSet
        ) throws -> [Tensor] {
            try differentiated(operands) {
                try Attention.causal(
                    query: $0[0], key: $0[1], value: $0[2], layout: layout, scale: scale,
                    instructionSet: instructionSet)
            }
        }

        /// Output and gradients in float64: scores, mask, softmax, sum.
        func reference(_ operands: [Tensor]) throws -> [Tensor] {
            let group = heads / keyValueHeads
            let shared = try Tensor((0..<heads).map { Int64($0 / group) }, shape: [heads])
            return try differentiated(operands.map { try $0.to(.float64) }) { inputs in
                var outputs: [Tensor] = []
                var start = 0
                for length in lengths {
                    let query = try inputs[0].narrow(0, start, length).transposed(0, 1)
                    let key = try inputs[1].narrow(0, start, length).indexSelected(1, shared)
                    let value = try inputs[2].narrow(0, start, length).indexSelected(1, shared)
                    let scores = try query.matmul(key.permuted([1, 2, 0])) * scale
                    let weights = try (scores + mask(length)).softmax()
                    outputs.append(
                        try weights.matmul(value.transposed(0, 1)).transposed(0, 1))
                    start += length
                }
                return try .concatenated(outputs)
            }
        }

        private func mask(_ length: Int) throws -> Tensor {
            let values = (0..<length).flatMap { row in
                (0..<length).map { key in
                    key <= row && key > row - (window ?? length) ? 0 : -Float.infinity
                }
            }
            return try Tensor(values, shape: [length, length]).to(.float64)
        }

        private func differentiated(
            _ operands: [Tensor], _ body: ([Tensor]) throws -> Tensor
        ) throws -> [Tensor] {
            let leaves = try operands.prefix(3).map { try $0.detach().clone() }
            for leaf in leaves { try leaf.setRequiresGrad(true) }
            let output = try body(leaves)
            try output.backward(gradient: operands[3])
            return try [output.detach()] + leaves.map { try #require($0.grad) }
        }
    }

    static let names = ["output", "query", "key", "value"]

    static let cases = [
        Case(heads: 9, keyValueHeads: 3, headDim: 64, lengths: [512]),
        Case(heads: 9, keyValueHeads: 3, headDim: 64, lengths: [16, 1, 130, 77, 300]),
        Case(heads: 3, keyValueHeads: 1, headDim: 64, lengths: Array(repeating: 100, count: 24)),
        Case(heads: 14, keyValueHeads: 2, headDim: 64, lengths: [333]),
        Case(heads: 4, keyValueHeads: 4, headDim: 64, lengths: [97, 97]),
        Case(heads: 5, keyValueHeads: 1, headDim: 80, lengths: [257]),
        Case(heads: 4, keyValueHeads: 2, headDim: 96, lengths: [64, 65, 63]),
        Case(heads: 8, keyValueHeads: 2, headDim: 128, lengths: [150, 31]),
        Case(heads: 2, keyValueHeads: 1, headDim: 256, lengths: [70]),
        Case(heads: 4, keyValueHeads: 2, headDim: 16, lengths: [99, 2]),
        Case(heads: 4, keyValueHeads: 2, headDim: 10, lengths: [40]),
        Case(heads: 2, keyValueHeads: 1, headDim: 33, lengths: [40]),
    ]

    @Test(arguments: cases)
    func isAsNearFloat64AsLibtorch(_ shape: Case) throws {
        let operands = try shape.operands()
        let found = try shape.byAttention(operands, .avx512bf16)
        let libtorch = try shape.byAttention(operands, .avx512)
        for (index, expected) in try shape.reference(operands).enumerated() {
            let error = try relativeError(found[index], expected)
            let errorOfLibtorch = try relativeError(libtorch[index], expected)
            #expect(found[index].dtype == .bfloat16)
            #expect(error <= Tolerance.bfloat16Kernel, "\(Self.names[index])")
            #expect(error <= errorOfLibtorch * 1.1, "\(Self.names[index])")
        }
    }

    /// One key has all the weight: scores, and what is exact, are known.
    @Test func oneTokenIsItsOwnValue() throws {
        let shape = Case(heads: 6, keyValueHeads: 2, headDim: 64, lengths: [1])
        let operands = try shape.operands()
        let found = try shape.byKernel(operands)
        let shared = try Tensor([0, 0, 0, 1, 1, 1] as [Int64], shape: [6])
        #expect(try found[0].isEqual(to: operands[2].indexSelected(1, shared)))
        for gradient in found[1...2] {
            #expect(try gradient.floats().allSatisfy { abs($0) < 1e-5 })
        }
    }

    static let windows = [1, 2, 15, 16, 17, 63, 64, 65, 200, 1000]

    @Test(arguments: windows)
    func windowHidesWhatIsFarBehind(_ window: Int) throws {
        let shape = Case(
            heads: 6, keyValueHeads: 2, headDim: 64, lengths: [16, 1, 130, 77, 300],
            window: window)
        let operands = try shape.operands()
        let found = try shape.byKernel(operands)
        for (index, expected) in try shape.reference(operands).enumerated() {
            // Alone with itself a token has no gradient of scores, only what rounding leaves.
            if window == 1 && (index == 1 || index == 2) { continue }
            let error = try relativeError(found[index], expected)
            #expect(error <= Tolerance.bfloat16Kernel, "\(Self.names[index])")
        }
    }

    @Test(arguments: cases)
    func threadsDoNotChangeABit(_ shape: Case) throws {
        let operands = try shape.operands()
        let one = try shape.byKernel(operands, threads: .libtorch(count: 1))
        for _ in 0..<2 {
            let three = try shape.byKernel(operands, threads: .libtorch(count: 3))
            for index in one.indices {
                #expect(try one[index].isEqual(to: three[index]), "\(Self.names[index])")
            }
        }
    }

    /// Nor do gradients; a long segment's are sums over parts.
    @Test func outputDoesNotDependOnOtherSegments() throws {
        let shape = Case(
            heads: 9, keyValueHeads: 3, headDim: 64, lengths: [16, 1, 130, 77, 300, 600])
        let operands = try shape.operands()
        let together = try shape.byKernel(operands)
        var start = 0
        for length in shape.lengths {
            let alone = Case(heads: 9, keyValueHeads: 3, headDim: 64, lengths: [length])
            let found = try alone.byKernel(operands.map { try $0.narrow(0, start, length) })
            for index in together.indices {
                let part = try together[index].narrow(0, start, length)
                #expect(try found[index].isEqual(to: part), "\(Self.names[index]) of \(length)")
            }
            start += length
        }
    }

    /// What comes after a token does not change its output by a bit.
    @Test func outputDoesNotDependOnLaterTokens() throws {
        let long = Case(heads: 3, keyValueHeads: 1, headDim: 64, lengths: [200])
        let operands = try long.operands()
        let output = try long.byKernel(operands)[0]
        for length in [1, 15, 63, 64, 65, 130] {
            let short = Case(heads: 3, keyValueHeads: 1, headDim: 64, lengths: [length])
            let found = try short.byKernel(operands.map { try $0.narrow(0, 0, length) })[0]
            #expect(try found.isEqual(to: output.narrow(0, 0, length)), "\(length) tokens")
        }
    }

    @Test(arguments: [Float.nan, .infinity, -.infinity], 0..<3)
    func whatIsNotFiniteReachesTheOutputAndTheGradients(value: Float, operand: Int) throws {
        let shape = Case(heads: 2, keyValueHeads: 1, headDim: 64, lengths: [90, 20])
        let operands = try shape.operands()
        // Token 70 is in the second block of keys; all its numbers, so that infinities of either sign meet.
        try operands[operand].narrow(0, 70, 1).fillInPlace(Double(value))
        let found = try shape.byKernel(operands)
        let rows = try finiteRows(found[0])
        let reached = operand == 0 ? 70..<71 : 70..<90
        #expect(rows[reached].allSatisfy { !$0 })
        #expect(rows[90...].allSatisfy { $0 }, "another segment")
        for index in 1...3 {
            let rows = try finiteRows(found[index])
            // The values' gradient depends on queries and keys only.
            let isReached = !(operand == 2 && index == 3)
            #expect(rows[..<90].contains(false) == isReached, "\(Self.names[index])")
            #expect(rows[90...].allSatisfy { $0 }, "another segment")
        }
    }

    /// Every score is -infinity: the softmax is 0 / 0.
    @Test func infinitelySmallScoresAreNotANumber() throws {
        let shape = Case(heads: 1, keyValueHeads: 1, headDim: 64, lengths: [20])
        let operands = try shape.operands()
        try operands[0].fillInPlace(1)
        try operands[1].fillInPlace(-Double.infinity)
        let output = try shape.byKernel(operands)[0]
        #expect(try output.floats().allSatisfy(\.isNaN))
    }

    @Test func gradientThatIsNotFiniteReachesTheGradients() throws {
        let shape = Case(heads: 2, keyValueHeads: 1, headDim: 64, lengths: [90])
        let operands = try shape.operands()
        try operands[3].narrow(0, 70, 1).fillInPlace(.nan)
        for gradient in try shape.byKernel(operands)[1...] {
            #expect(!(try finiteRows(gradient)[70]))
        }
    }

    /// Operands with gaps between heads and tokens, outputs with canaries around and in the gaps.
    @Test(arguments: [1, 33, 64, 80])
    func stridesAndBoundsAreKept(headDim: Int) throws {
        let shape = Case(heads: 4, keyValueHeads: 2, headDim: headDim, lengths: [30, 1, 70])
        let operands = try shape.operands()
        let expected = try shape.byKernel(operands)
        let inputs = try operands.map { try Spread($0) }
        let outputs = try expected.map { try Spread(.full($0.shape, 0, dtype: .bfloat16)) }
        let logSumExp = UnsafeMutablePointer<Float>.allocate(capacity: 4 * 101)
        defer { logSumExp.deallocate() }
        Self.described(shape) { attention in
            let threads = CKernelsThreads.libtorch(count: 1)
            let bytes = max(
                ckernels_attention_forward_workspace_bytes(attention, 1),
                ckernels_attention_backward_workspace_bytes(attention, 1))
            let workspace = UnsafeMutableRawPointer.allocate(byteCount: Int(bytes), alignment: 1)
            defer { workspace.deallocate() }
            #expect(
                ckernels_attention_forward(
                    threads, attention, inputs[0].heads, inputs[1].heads, inputs[2].heads,
                    outputs[0].mutableHeads, logSumExp, workspace) == 0)
            #expect(
                ckernels_attention_backward(
                    threads, attention, inputs[0].heads, inputs[1].heads, inputs[2].heads,
                    outputs[0].heads, inputs[3].heads, logSumExp, outputs[1].mutableHeads,
                    outputs[2].mutableHeads, outputs[3].mutableHeads, workspace) == 0)
        }
        for (output, expected) in zip(outputs, expected) {
            #expect(try output.elements == Spread(expected).elements)
        }
    }

    private static func described(
        _ shape: Case, _ body: (UnsafePointer<CKernelsAttention>) -> Void
    ) {
        shape.lengths.map(Int64.init).withUnsafeBufferPointer { lengths in
            var attention = CKernelsAttention(
                num_segments: Int64(lengths.count), segment_lengths: lengths.baseAddress,
                num_heads: Int64(shape.heads), num_key_value_heads: Int64(shape.keyValueHeads),
                head_size: Int64(shape.headDim), window: 0, scale: Float(shape.scale))
            body(&attention)
        }
    }

    /// A `[N, heads, D]` with gaps between its heads and tokens, and all around it; what is not an element is a NaN of its own.
    private final class Spread {
        static let canary: UInt16 = 0x7fc5
        static let margin = 40
        private let memory: UnsafeMutableBufferPointer<UInt16>
        private let strides: (token: Int, head: Int)

        init(_ tensor: Tensor) throws {
            let shape = tensor.shape
            let head = shape[2] + 3
            strides = (shape[1] * head + 5, head)
            let end = (shape[0] - 1) * strides.token + (shape[1] - 1) * head + shape[2]
            memory = .allocate(capacity: end + 2 * Self.margin)
            memory.initialize(repeating: Self.canary)
            try tensor.contiguous().withUnsafeBytes { bytes in
                for (index, value) in bytes.bindMemory(to: UInt16.self).enumerated() {
                    let (row, d) = index.quotientAndRemainder(dividingBy: shape[2])
                    let (token, head) = row.quotientAndRemainder(dividingBy: shape[1])
                    memory[Self.margin + token * strides.token + head * strides.head + d] = value
                }
            }
        }

        deinit { memory.deallocate() }

        /// Everything, gaps and margins too.
        var elements: [UInt16] { Array(memory) }

        var heads: CKernelsHeads {
            CKernelsHeads(
                data: memory.baseAddress.map { $0 + Self.margin },
                token_stride: Int64(strides.token), head_stride: Int64(strides.head))
        }

        var mutableHeads: CKernelsMutableHeads {
            CKernelsMutableHeads(
                data: memory.baseAddress.map { $0 + Self.margin },
                token_stride: Int64(strides.token), head_stride: Int64(strides.head))
        }
    }

    @Test func otherCasesGoThroughLibtorch() throws {
        let shape = Case(heads: 4, keyValueHeads: 2, headDim: 64, lengths: [40, 9])
        let operands = try shape.operands().map { try $0.to(.float32) }
        let best = try shape.byAttention(operands, .avx512bf16)
        for (found, expected) in zip(best, try shape.byAttention(operands, .avx512)) {
            #expect(try found.isEqual(to: expected))
        }
        let wide = Case(heads: 2, keyValueHeads: 1, headDim: 272, lengths: [40, 9])
        let wideOperands = try wide.operands()
        #expect(!AttentionKernel.isUsable(for: wideOperands, scale: 1))
        #expect(!AttentionKernel.isUsable(for: try shape.operands(), scale: -1))
        #expect(AttentionKernel.isUsable(for: try shape.operands(), scale: 1))
        let found = try wide.byAttention(wideOperands, .avx512bf16)
        for (found, expected) in zip(found, try wide.reference(wideOperands)) {
            #expect(try relativeError(found, expected) <= Tolerance.bfloat16)
        }
    }

    @Test func nodeEndsWithItsOutput() throws {
        let shape = Case(heads: 4, keyValueHeads: 2, headDim: 64, lengths: [40])
        let before = TorchRuntime.numLiveContexts
        _ = try shape.byAttention(shape.operands(), .avx512bf16)
        let operands = try shape.operands()
        try operands[0].setRequiresGrad(true)
        var output: Tensor? = try Attention.causal(
            query: operands[0], key: operands[1], value: operands[2], layout: shape.layout,
            scale: shape.scale)
        #expect(output?.requiresGrad == true)
        #expect(TorchRuntime.numLiveContexts == before + 1)
        output = nil
        #expect(TorchRuntime.numLiveContexts == before)
    }

    /// A dry run has the shapes and counts the workspace, which ends with the call.
    @Test func dryRunCountsWhatARunTakes() throws {
        let shape = Case(heads: 4, keyValueHeads: 2, headDim: 64, lengths: [100])
        let numInputs = 100 * (4 + 2 + 2) * 64
        let numSaved = 100 * 4 * 64
        var kept: Tensor?
        let peak = try DryRun.peak {
            let inputs = try [4, 2, 2].map {
                try Tensor.empty([100, $0, 64], dtype: .bfloat16)
            }
            let kernel = AttentionKernel(layout: shape.layout, scale: shape.scale)
            for _ in 0..<2 {
                let result = try kernel.forward(query: inputs[0], key: inputs[1], value: inputs[2])
                #expect(result.output.shape == [100, 4, 64])
                #expect(result.logSumExp.shape == [4, 100])
                kept = result.output
            }
        }
        _ = kept
        let most = 2 * numInputs + 2 * 2 * numSaved + 4 * 400 + (1 << 20)
        let least = 2 * numInputs + 2 * numSaved + 4 * 400 + 2 * 2 * 100 * 2 * 64
        #expect((least...most).contains(peak[.activations] ?? 0))
    }

    private func relativeError(_ found: Tensor, _ expected: Tensor) throws -> Double {
        Tolerance.relativeError(try found.floats(), try expected.floats())
    }

    /// For each token whether all its numbers are finite.
    private func finiteRows(_ tensor: Tensor) throws -> [Bool] {
        let values = try tensor.floats()
        let width = tensor.shape[1] * tensor.shape[2]
        return stride(from: 0, to: values.count, by: width).map { start in
            values[start..<start + width].allSatisfy(\.isFinite)
        }
    }
}

extension CKernelsThreads {
    /// So many of libtorch's threads.
    fileprivate static func libtorch(count: Int32) -> CKernelsThreads {
        CKernelsThreads(count: count, run: TorchRuntime.runInParallel)
    }
}
