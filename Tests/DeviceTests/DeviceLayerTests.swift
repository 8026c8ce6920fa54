import PEFTAdapters
import PEFTLayers
import PEFTQuantization
import TestSupport
import Testing
import Torch

/// Layers on the device against the kernels in host memory.
@Suite struct DeviceLayerTests {
    static let dtypes: [DType] = [.float32, .bfloat16, .float16]

    private func normal(_ shape: [Int], _ dtype: DType, seed: UInt64) throws -> Tensor {
        try Tensor.normal(shape, generator: Generator(seed: seed)).to(dtype)
    }

    /// What two ways to compute the same may differ by: of a narrow dtype a rounding to the next number.
    private func tolerance(_ dtype: DType) -> Double {
        switch dtype {
        case .float32: Tolerance.float32
        case .bfloat16: Tolerance.twiceRoundedToBFloat16
        default: Tolerance.float16Values
        }
    }

    /// Compares outputs and gradients of a function of tensors on the device with those in host memory.
    private func compare(
        _ inputs: [Tensor], tolerance: Double, _ function: ([Tensor]) throws -> Tensor
    ) throws {
        func run(on device: Device) throws -> [[Float]] {
            let leaves = try inputs.map { try $0.clone().to(device) }
            for leaf in leaves { try leaf.setRequiresGrad(true) }
            let output = try function(leaves)
            #expect(output.device == device)
            let weight = try normal(output.shape, output.dtype, seed: 99).to(device)
            try output.backward(gradient: weight)
            let gradients = try leaves.map { try #require($0.grad) }
            #expect(gradients.allSatisfy { $0.device == device })
            return try ([output.detach()] + gradients).map { try $0.floats() }
        }
        let (there, host) = (try run(on: Simulated.device), try run(on: .cpu))
        for (index, (found, expected)) in zip(there, host).enumerated() {
            #expect(Tolerance.relativeError(found, expected) < tolerance, "result \(index)")
        }
    }

    @Test(arguments: dtypes) func swiGLU(dtype: DType) throws {
        let inputs = try [1, 2].map { try normal([7, 13], dtype, seed: $0) }
        try compare(inputs, tolerance: tolerance(dtype)) {
            try SwiGLU.apply(gate: $0[0], up: $0[1])
        }
    }

    @Test(arguments: dtypes, [(0.0, true), (1, false)])
    func rmsNorm(dtype: DType, form: (offset: Double, roundsFirst: Bool)) throws {
        let source = RandomSource(seed: 3, standardDeviation: 0.3, dtype: dtype)
        func norm(on device: Device) throws -> RMSNorm {
            try RMSNorm(
                hiddenSize: 11, epsilon: 1e-5, offset: form.offset, roundsFirst: form.roundsFirst,
                Scope(registry: ModuleRegistry(), source: DeviceSource(source, on: device)) / "norm"
            )
        }
        let norms = [
            Device.cpu: try norm(on: .cpu), Simulated.device: try norm(on: Simulated.device),
        ]
        for norm in norms.values { try norm.weight.value.setRequiresGrad(true) }
        try compare([normal([6, 11], dtype, seed: 4)], tolerance: tolerance(dtype)) {
            let norm = try #require(norms[$0[0].device])
            return try norm($0[0])
        }
        let gradients = try norms.mapValues { try #require($0.weight.value.grad).floats() }
        #expect(
            Tolerance.relativeError(
                try #require(gradients[Simulated.device]), try #require(gradients[.cpu]))
                < tolerance(dtype))
    }

    @Test(arguments: dtypes) func rotaryEmbedding(dtype: DType) throws {
        let rotary = try RotaryEmbedding(headDim: 10, theta: 10_000)
        let layout = SequenceLayout(segmentLengths: [4, 3])
        try compare([normal([7, 3, 10], dtype, seed: 5)], tolerance: tolerance(dtype)) {
            try rotary.rotation(for: layout, dtype: dtype, on: $0[0].device)($0[0])
        }
    }

    @Test(arguments: dtypes, [[7], [3, 3, 4], [1, 5, 2]])
    func attention(dtype: DType, lengths: [Int]) throws {
        let layout = SequenceLayout(segmentLengths: lengths)
        let (count, heads) = (layout.numTokens, [4, 2, 2])
        let inputs = try heads.enumerated().map { index, heads in
            try normal([count, heads, 8], dtype, seed: UInt64(index))
        }
        // Softmax and its products are rounded at other places; in bfloat16 the kernel rounds its weights too.
        let allowed = dtype == .bfloat16 ? Tolerance.bfloat16 : 3 * tolerance(dtype)
        try compare(inputs, tolerance: allowed) {
            try Attention.causal(
                query: $0[0], key: $0[1], value: $0[2], layout: layout, scale: 0.3)
        }
    }

    @Test(arguments: [nil, 7.0]) func attentionInAWindow(softCap: Double?) throws {
        let layout = SequenceLayout(segmentLengths: [2, 9, 3])
        let inputs = try [4, 2, 2].enumerated().map { index, heads in
            try normal([14, heads, 8], .float32, seed: UInt64(index))
        }
        try compare(inputs, tolerance: 3 * Tolerance.float32) {
            try Attention.causal(
                query: $0[0], key: $0[1], value: $0[2], layout: layout, scale: 0.3, window: 4,
                softCap: softCap)
        }
    }

    @Test(arguments: dtypes) func attentionOfTheNewestToken(dtype: DType) throws {
        let query = try normal([1, 4, 8], dtype, seed: 1)
        let (key, value) = (
            try normal([9, 2, 8], dtype, seed: 2), try normal([9, 2, 8], dtype, seed: 3)
        )
        let host = try Attention.newest(query: query, key: key, value: value, scale: 0.3)
        let there = try Attention.newest(
            query: query.to(Simulated.device), key: key.to(Simulated.device),
            value: value.to(Simulated.device), scale: 0.3)
        #expect(there.device == Simulated.device)
        let allowed = dtype == .bfloat16 ? Tolerance.bfloat16 : 3 * tolerance(dtype)
        #expect(try Tolerance.relativeError(there.floats(), host.floats()) < allowed)
    }

    @Test(arguments: [0.0, 0.25]) func loraDropsTheSameElements(dropout: Double) throws {
        let key = DropoutKey(seed: 1, step: 2, microBatch: 3)
        let (input, weight) = (
            try normal([9, 12], .float32, seed: 1), try normal([5, 12], .float32, seed: 2)
        )
        let context = ForwardContext(
            layout: SequenceLayout(segmentLengths: [9]), dropout: key)
        let target = LoRATarget(path: "q_proj", rank: 3, alpha: 6)
        func output(on device: Device) throws -> [Float] {
            let dense = try DenseWeight(
                Parameter(path: "q_proj.weight", value: weight, isTrainable: false)
            ).moved(to: device)
            let linear = Linear(path: "q_proj", weight: dense)
            linear.attach(
                try LoRA(
                    target: target, inFeatures: 12, outFeatures: 5, dropout: dropout,
                    initialization: .random, seed: 4, on: device))
            return try linear(input.to(device), context: context).detach().floats()
        }
        let (there, host) = (try output(on: Simulated.device), try output(on: .cpu))
        #expect(Tolerance.relativeError(there, host) < Tolerance.float32)
    }

    /// The same bits: the lookup multiplies the same two float32 numbers and rounds once, as the kernels do.
    @Test(arguments: QuantType.allCases, [false, true])
    func fourBitWeightsDecodeToTheSameBits(quantType: QuantType, isDouble: Bool) throws {
        for (rows, columns) in [(1, 1), (3, 5), (7, 64), (40, 257)] {
            let matrix = try normal([rows, columns], .float32, seed: 8)
            let config = QuantizationConfig(
                quantType: quantType, blockSize: 32, usesDoubleQuantization: isDouble)
            let host = try FourBitTensor(quantizing: matrix, config: config)
            let there = try host.moved(to: Simulated.device)
            #expect(there.packed.device == Simulated.device)
            for dtype in Self.dtypes {
                let (found, expected) = (
                    try there.dequantized(to: dtype), try host.dequantized(to: dtype)
                )
                #expect(found.device == Simulated.device)
                #expect(try found.to(.cpu).isEqual(to: expected), "\(rows) x \(columns), \(dtype)")
            }
        }
    }

    @Test(arguments: dtypes) func fourBitLinear(dtype: DType) throws {
        let host = FourBitWeight(
            try FourBitTensor(quantizing: normal([9, 33], .float32, seed: 1), config: .init()))
        let weights = [Device.cpu: host, Simulated.device: try host.moved(to: Simulated.device)]
        try compare([normal([5, 33], dtype, seed: 2)], tolerance: tolerance(dtype)) {
            let weight = try #require(weights[$0[0].device])
            return try weight.apply(to: $0[0])
        }
    }

    @Test(arguments: dtypes) func crossEntropy(dtype: DType) throws {
        let head = try normal([17, 12], dtype, seed: 2)
        try compare([normal([5, 12], dtype, seed: 1)], tolerance: 2 * tolerance(dtype)) { leaves in
            let weight = try head.to(leaves[0].device)
            let losses = try CrossEntropy.losses(
                hiddenStates: leaves[0], targets: [3, -1, 16, 0, -1], weight: weight
            ) { hidden throws(TorchError) in try hidden.linear(weight.to(hidden.dtype)) }
            #expect(losses.perTarget.shape == [3])
            return losses.sum
        }
    }
}
