import PEFTLayers
import PEFTTraining
import Testing
import Torch

/// What is infinite or NaN is reported as the work of the kernel that made it, not of what came after.
@Suite struct NonFiniteKernelTests {
    /// Nearly the largest number: twice that is infinite.
    private static let huge = 3e38

    private func huge(_ shape: [Int], _ dtype: DType = .float32) throws(TorchError) -> Tensor {
        try Tensor.full(shape, Self.huge).to(dtype)
    }

    private func ones(_ shape: [Int], _ dtype: DType = .float32) throws(TorchError) -> Tensor {
        try Tensor.ones(shape).to(dtype)
    }

    /// Expects that the first result that is not finite is this operation's.
    private func expectFound(
        _ name: String, isInBackward: Bool = false, isInInput: Bool = false,
        sourceLocation: SourceLocation = #_sourceLocation, _ body: () throws -> Void
    ) throws {
        let search = try NonFiniteSearch.run(body)
        #expect(search.operation == name, sourceLocation: sourceLocation)
        #expect(search.isInBackward == isInBackward, sourceLocation: sourceLocation)
        #expect(search.isInInput == isInInput, sourceLocation: sourceLocation)
    }

    @Test func rmsNorm() throws {
        let (input, weight) = (try ones([3, 4]) * 2, try huge([4]))
        let kernels = ElementwiseKernels()
        let output = try kernels.rmsNorm(input, weight: try ones([4]), epsilon: 1e-6)
        let doubled = try Tensor([2, 0, 0, 0] as [Float], shape: [1, 4])
        try expectFound("rms_norm") {
            _ = try kernels.rmsNorm(doubled, weight: weight, epsilon: 1e-6)
        }
        try expectFound("rms_norm") {
            _ = try kernels.rmsNormInputGradient(
                outputGradient: try huge([3, 4]), input: input, weight: weight,
                inverse: output.inverse)
        }
        try expectFound("rms_norm") {
            _ = try kernels.rmsNormWeightGradient(
                outputGradient: try huge([3, 4]), input: input, inverse: output.inverse)
        }
    }

    @Test func swiGLU() throws {
        try expectFound("swiglu") {
            _ = try SwiGLU.apply(gate: try huge([3, 5]), up: try huge([3, 5]))
        }
        let gate = try ones([3, 5]) * 9
        try gate.setRequiresGrad(true)
        try expectFound("swiglu", isInBackward: true) {
            let output = try SwiGLU.apply(gate: gate, up: try ones([3, 5]) * 9)
            try output.backward(gradient: huge([3, 5]))
        }
    }

    @Test func rotaryEmbedding() throws {
        let rotation = try RotaryEmbedding(headDim: 4, theta: 10).rotation(
            for: SequenceLayout(segmentLengths: [5]), dtype: .float32)
        try expectFound("rotary_embedding") { _ = try rotation(try huge([5, 2, 4])) }
        let states = try ones([5, 2, 4])
        try states.setRequiresGrad(true)
        try expectFound("rotary_embedding", isInBackward: true) {
            try rotation(states).backward(gradient: huge([5, 2, 4]))
        }
    }

    /// Dropout makes no infinity, but a NaN of one that it drops.
    @Test func dropout() throws {
        let kept = try Tensor.zeros([3, 4]).to(.bool)
        let infinite = try huge([3, 4]) * 2
        try expectFound("dropout", isInInput: true) {
            _ = try ElementwiseKernels().masked(infinite, kept: kept)
        }
    }

    // MARK: - Kernels of products

    private static let lacksProducts = "this processor has no products of bfloat16 numbers"

    @Test(.enabled(if: InstructionSet.best == .avx512bf16, "\(lacksProducts)"))
    func linear() throws {
        let weight = try huge([6, 4], .bfloat16)
        let layer = try DenseWeight(Parameter(path: "w", value: weight, isTrainable: false))
        func output(_ input: Tensor) throws -> Tensor {
            let kernel = try #require(
                try LinearKernel(for: input, weight: layer, bias: nil, term: nil))
            return try #require(try kernel(Recomputable(kept: input)))
        }
        try expectFound("linear") { _ = try output(ones([3, 4], .bfloat16)) }
        let input = try Tensor.zeros([3, 4]).to(.bfloat16)
        try input.setRequiresGrad(true)
        try expectFound("linear", isInBackward: true) {
            try output(input).backward(gradient: ones([3, 6], .bfloat16))
        }
    }

    @Test(.enabled(if: InstructionSet.best == .avx512bf16, "\(lacksProducts)"))
    func attention() throws {
        let layout = SequenceLayout(segmentLengths: [5])
        func output(_ query: Tensor, _ value: Tensor) throws -> Tensor {
            try Attention.causal(
                query: query, key: query, value: value, layout: layout, scale: 0.5)
        }
        let states = try ones([5, 2, 4], .bfloat16)
        try expectFound("attention") { _ = try output(try huge([5, 2, 4], .bfloat16), states) }
        let query = try ones([5, 2, 4], .bfloat16)
        try query.setRequiresGrad(true)
        try expectFound("attention", isInBackward: true) {
            try output(query, states).backward(gradient: huge([5, 2, 4], .bfloat16))
        }
    }
}
