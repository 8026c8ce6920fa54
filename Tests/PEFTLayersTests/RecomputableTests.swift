import PEFTLayers
import TestSupport
import Testing
import Torch

/// A layer's input that is computed again gives the gradients that the kept one gives, and does not live until backward.
@Suite(
    .enabled(
        if: InstructionSet.avx512bf16.isSupported,
        "the kernel needs products of bfloat16 numbers, which this processor lacks"))
struct RecomputableTests {
    private static let tokens = 37
    private static let width = 70

    private static func numbers(_ shape: [Int], _ seed: UInt64) throws -> Tensor {
        try Tensor.normal(shape, generator: Generator(seed: seed)).to(.bfloat16)
    }

    /// Gradients of the leaves and of A and B, where `makeInput` makes the input of a linear from two leaves.
    private static func gradients(
        _ makeInput: (Tensor, Tensor) throws -> Recomputable, dropsInput: Bool
    ) throws -> [Tensor] {
        let leaves = try [numbers([tokens, width], 1), numbers([tokens, width], 2)]
        let a = try numbers([5, width], 3).to(.float32)
        let b = try numbers([66, 5], 4).to(.float32)
        for leaf in leaves + [a, b] { try leaf.setRequiresGrad(true) }
        let kept =
            dropsInput
            ? try Tensor(
                (0..<tokens * width).map { Float($0 % 3 == 0 ? 0 : 1) }, shape: [tokens, width]
            ).to(.bool)
            : nil
        let weight = DenseWeight(
            try Parameter(path: "w", value: numbers([66, width], 5), isTrainable: false))
        weak var alive: Tensor?
        let output = try {
            let input = try makeInput(leaves[0], leaves[1])
            let term = LowRankTerm(a: a, b: b, scale: 0.5, kept: kept)
            let kernel = try #require(
                try LinearKernel(for: input.value, weight: weight, bias: nil, term: term))
            alive = input.value
            return try #require(try kernel(input))
        }()
        #expect(alive == nil)
        try output.backward(gradient: numbers([tokens, 66], 6))
        return try (leaves + [a, b]).compactMap { try $0.grad?.detach() }
    }

    @Test(arguments: [false, true])
    func swiGLUIsComputedAgainWithTheSameBits(dropsInput: Bool) throws {
        let again = try Self.gradients(
            { try SwiGLU.recomputable(gate: $0, up: $1) }, dropsInput: dropsInput)
        let kept = try Self.gradients(
            { Recomputable(kept: try SwiGLU.apply(gate: $0, up: $1)) }, dropsInput: dropsInput)
        #expect(again.count == 4)
        #expect(try again.map { try $0.bytes } == kept.map { try $0.bytes })
    }

    @Test(arguments: [false, true])
    func aNormIsComputedAgainWithTheSameBits(dropsInput: Bool) throws {
        let scope = Scope(
            registry: ModuleRegistry(), source: RandomSource(seed: 7, standardDeviation: 1))
        let norm = try RMSNorm(hiddenSize: Self.width, epsilon: 1e-5, scope / "norm")
        let again = try Self.gradients(
            { first, _ in try norm.recomputable(first) }, dropsInput: dropsInput)
        let kept = try Self.gradients(
            { first, _ in Recomputable(kept: try norm(first)) }, dropsInput: dropsInput)
        #expect(again.count == 3)
        #expect(try again.map { try $0.bytes } == kept.map { try $0.bytes })
    }

    @Test func backwardComputesAgainOnceAndForwardNever() throws {
        var count = 0
        _ = try Self.gradients(
            { first, second in
                let product = try first * second
                let (one, other) = (try first.detach(), try second.detach())
                return Recomputable(product) { () throws(TorchError) in
                    count += 1
                    return try one * other
                }
            }, dropsInput: false)
        #expect(count == 1)
    }
}
