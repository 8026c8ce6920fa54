import Foundation
import PEFTLayers
import TestSupport
import Testing
import Torch

@Suite struct RotaryEmbeddingTests {
    private static let layout = SequenceLayout(segmentLengths: [4, 1, 6], firstPosition: 3)

    /// `(a cos t - b sin t, b cos t + a sin t)` in Double.
    private func reference(
        _ states: [Float], numHeads: Int, headDim: Int, theta: Double, layout: SequenceLayout
    ) -> [Float] {
        var result = states
        let half = headDim / 2
        for (token, position) in layout.positions.enumerated() {
            for head in 0..<numHeads {
                let start = (token * numHeads + head) * headDim
                for pair in 0..<half {
                    let angle =
                        Double(position) * pow(theta, -2 * Double(pair) / Double(headDim))
                    let (first, second) = (start + pair, start + pair + half)
                    let (a, b) = (Double(states[first]), Double(states[second]))
                    result[first] = Float(a * cos(angle) - b * sin(angle))
                    result[second] = Float(b * cos(angle) + a * sin(angle))
                }
            }
        }
        return result
    }

    @Test(arguments: [2, 6, 8, 64, 80], [1, 3])
    func statesAreRotatedByTheirPosition(headDim: Int, numHeads: Int) throws {
        let rotary = try RotaryEmbedding(headDim: headDim, theta: 10_000)
        let rotation = try rotary.rotation(for: Self.layout, dtype: .float32)
        let states = try Tensor.random([11, numHeads, headDim], seed: 1)
        let expected = reference(
            try states.floats(), numHeads: numHeads, headDim: headDim, theta: 10_000,
            layout: Self.layout)
        try expectClose(rotation(states), Tensor(expected, shape: states.shape))
    }

    /// The transpose of a rotation rotates back, so the gradient is that of the opposite angle.
    @Test(arguments: [2, 6, 64])
    func gradientIsRotatedBack(headDim: Int) throws {
        let rotary = try RotaryEmbedding(headDim: headDim, theta: 500)
        let rotation = try rotary.rotation(for: Self.layout, dtype: .float32)
        let states = try Tensor.random([11, 2, headDim], seed: 2)
        try states.setRequiresGrad(true)
        let outputGradient = try Tensor.random([11, 2, headDim], seed: 3)
        try rotation(states).backward(gradient: outputGradient)
        try expectClose(
            rotation(#require(states.grad)), outputGradient, Tolerance.gradient)
    }

    @Test func channelsBeyondTheRotatedOnesStay() throws {
        let rotary = try RotaryEmbedding(headDim: 4, theta: 100)
        let rotation = try rotary.rotation(for: Self.layout, dtype: .float32)
        let states = try Tensor.random([11, 3, 10], seed: 5)
        let found = try Differentiated([states]) { try rotation($0[0]) }
        let expected = try Differentiated([states]) {
            try .concatenated(
                [rotation($0[0].narrow(2, 0, 4).contiguous()), $0[0].narrow(2, 4, 6)], dim: 2)
        }
        try found.expectClose(to: expected)
        #expect(
            try found.output.narrow(2, 4, 6).contiguous()
                .isEqual(to: states.narrow(2, 4, 6).contiguous()))
    }

    /// Scalings that depend on the length see that of each segment, not that of the batch.
    @Test(arguments: [
        RotaryScaling.dynamic(factor: 2, maxPositionEmbeddings: 4),
        .longRoPE(
            RotaryScaling.LongRoPE(
                shortFactor: [1, 1.5], longFactor: [2, 9], attentionFactor: 1.2,
                originalMaxPositionEmbeddings: 4)),
    ])
    func segmentsAreRotatedAsIfAlone(scaling: RotaryScaling) throws {
        let rotary = try RotaryEmbedding(headDim: 4, theta: 100, scaling: scaling)
        let lengths = [3, 7, 4, 5]
        let states = try Tensor.random([19, 2, 4], seed: 6)
        let together = try rotary.rotation(
            for: SequenceLayout(segmentLengths: lengths), dtype: .float32)(states)
        var start = 0
        for length in lengths {
            let alone = try rotary.rotation(
                for: SequenceLayout(segmentLengths: [length]), dtype: .float32)
            let part = try alone(states.narrow(0, start, length))
            #expect(try part.isEqual(to: together.narrow(0, start, length)))
            start += length
        }
        #expect(rotary.isSame(length: 2, otherLength: 4))
        #expect(!rotary.isSame(length: 4, otherLength: 5))
    }

    @Test func positionZeroIsTheIdentity() throws {
        let rotary = try RotaryEmbedding(headDim: 8, theta: 10_000)
        let layout = SequenceLayout(segmentLengths: [1, 1, 1])
        let states = try Tensor.random([3, 2, 8], seed: 4)
        #expect(try rotary.rotation(for: layout, dtype: .float32)(states).isEqual(to: states))
    }

    /// transformers divides `2i` by D, which for D = 80 is not `i * (2 / D)` in float32.
    @Test(arguments: [6, 64, 80, 96])
    func frequenciesAreRoundedAsInTransformers(headDim: Int) throws {
        let half = headDim / 2
        let exponents = try Tensor(
            (0..<half).map { Float(2 * $0) / Float(headDim) }, shape: [half])
        let frequencies = try Tensor.ones([1]) / Tensor.full([1], 10_000).raised(to: exponents)
        let angles = try frequencies * 1000
        // Rotating (1, 0) gives (cos t, sin t).
        let ones = try Tensor.concatenated([.ones([1, 1, half]), .zeros([1, 1, half])], dim: 2)
        let layout = SequenceLayout(segmentLengths: [1], firstPosition: 1000)
        let found = try RotaryEmbedding(headDim: headDim, theta: 10_000)
            .rotation(for: layout, dtype: .float32)(ones)
        let expected = try Tensor.concatenated([angles.cos(), angles.sin()])
        #expect(try found.floats() == expected.floats())
    }

    @Test func bfloat16KeepsItsDTypeAndIsNearFloat32() throws {
        let rotary = try RotaryEmbedding(headDim: 64, theta: 10_000)
        let states = try Tensor.random([11, 3, 64], seed: 5)
        let narrow = try rotary.rotation(for: Self.layout, dtype: .bfloat16)
        let wide = try rotary.rotation(for: Self.layout, dtype: .float32)
        let found = try Differentiated([states.to(.bfloat16)]) { try narrow($0[0]) }
        #expect(found.output.dtype == .bfloat16)
        try found.expectClose(
            to: Differentiated([states]) { try wide($0[0]) }, output: Tolerance.bfloat16,
            gradient: Tolerance.bfloat16)
    }

    @Test(arguments: [DType.float32, .bfloat16])
    func stridedStatesAreRotatedAsCopies(dtype: DType) throws {
        let rotation = try RotaryEmbedding(headDim: 6, theta: 100)
            .rotation(for: Self.layout, dtype: dtype)
        let wide = try Tensor.random([3, 11, 8], seed: 6).to(dtype)
        let headsFirst = try wide.narrow(2, 1, 6).transposed(0, 1)  // [11, 3, 6]
        let channelsFirst = try Tensor.random([6, 3, 11], seed: 7).to(dtype).transposed(0, 2)
        for states in [
            headsFirst, channelsFirst, try headsFirst.narrow(1, 0, 1).expanded([11, 4, 6]),
        ] {
            #expect(!states.isContiguous)
            #expect(try rotation(states).isEqual(to: rotation(states.contiguous())))
        }
    }

    @Test func otherNumberOfTokensIsAnError() throws {
        let rotation = try RotaryEmbedding(headDim: 8, theta: 10_000)
            .rotation(for: Self.layout, dtype: .float32)
        #expect(throws: TorchError.self) { _ = try rotation(.zeros([10, 2, 8])) }
    }
}
