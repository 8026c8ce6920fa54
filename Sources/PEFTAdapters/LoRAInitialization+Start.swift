import Torch

extension LoRAInitialization {
    /// A, `[r, inFeatures]`, and B, `[outFeatures, r]`, as they start; of experts as many rows and columns for each.
    ///
    /// Zeros where the start depends on the layer's weight or on rows, for an adapter whose numbers come from a file.
    ///
    /// - Throws: `TorchError` if libtorch cannot allocate.
    func start(
        rank: Int, _ shapeA: [Int], _ shapeB: [Int], generator: Generator
    ) throws(TorchError) -> (loraA: Tensor, loraB: Tensor) {
        switch self {
        case .kaimingUniform:
            (try Self.kaimingUniform(shapeA, generator), try Tensor.zeros(shapeB))
        case .gaussian:
            (
                try Tensor.normal(
                    shapeA, standardDeviation: 1 / Double(rank), generator: generator),
                try Tensor.zeros(shapeB)
            )
        case .random:
            (
                try Self.kaimingUniform(shapeA, generator),
                try Self.kaimingUniform(shapeB, generator)
            )
        case .orthogonal: try Self.orthogonal(shapeA, shapeB, generator)
        case .pissa, .pissaIterated, .olora, .loftq, .eva, .corda, .loraGA:
            // The numbers of a file come next.
            (try Tensor.zeros(shapeA), try Tensor.zeros(shapeB))
        }
    }

    /// Kaiming's uniform numbers with a = √5: in ±1/√fan-in, the fan-in being the columns.
    private static func kaimingUniform(
        _ shape: [Int], _ generator: Generator
    ) throws(TorchError) -> Tensor {
        let bound = 1 / Double(shape[1]).squareRoot()
        return try Tensor.uniform(shape, from: -bound, to: bound, generator: generator)
    }

    /// `A = (N Q₁)ᵀ / 10`, `B = M Q₂ / 10`: N and M standard normal, Q₁ and Q₂ each half of the rows of an orthogonal matrix, which is
    /// Q of a standard normal one.
    ///
    /// - Source: peft 0.21.2 `tuners/lora/layer.py:LoraLayer.orthogonal_init`.
    private static func orthogonal(
        _ shapeA: [Int], _ shapeB: [Int], _ generator: Generator
    ) throws(TorchError) -> (loraA: Tensor, loraB: Tensor) {
        let (rank, half) = (shapeA[0], shapeA[0] / 2)
        let orthogonal = try Tensor.normal([rank, rank], generator: generator).qr().q
        let pairs = try orthogonal.reshape([half, 2, rank])
        let (odd, even) = (try pairs.select(1, 0), try pairs.select(1, 1))  // [r / 2, r]
        let normalA = try Tensor.normal([shapeA[1], half], generator: generator)
        let normalB = try Tensor.normal([shapeB[0], half], generator: generator)
        return (
            try (normalA.matmul(odd) * 0.1).transposed().contiguous(),
            try normalB.matmul(even) * 0.1
        )
    }
}
