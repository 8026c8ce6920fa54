import Foundation
import PEFTAdapters
public import PEFTLayers
public import Torch

/// LoRA-FA: every A is frozen, and B follows the gradient whose update of the weight is nearest to that of full fine-tuning.
///
/// `g' = g (A A^T + 1e-8)^-1 / s^2`, s the adapter's scaling; then Adam's moments of g', `p = p - lr sqrt(1 - b2^t) / (1 - b1^t) m /
/// (sqrt(v) + eps)`, and `p = p (1 - lr wd)`. Other trainable tensors are updated alike by their own gradient.
///
/// - Source: Zhang et al. 2023, "LoRA-FA"; peft 0.21.2 `optimizers/lorafa.py:LoraFAOptimizer` with epsilon 1e-6.
///
/// Differs from PEFT: g' is not rounded to bfloat16 on machines that have it, and the inverse is found once, in float64, since A
/// does not change.
public struct LoRAFA: Sendable, Hashable {
    /// Decay of the first moment.
    public var beta1 = 0.9
    /// Decay of the second moment.
    public var beta2 = 0.999
    /// Added to the root of the second moment, before its bias is corrected.
    public var epsilon = 1e-6
    /// For each B by its path, the rank and the matrix `(A A^T + 1e-8)^-1 / s^2`, row-major.
    private let projections: [String: Projection]

    private struct Projection: Sendable, Hashable {
        let rank: Int
        let matrix: [Float]
    }

    /// Added to the diagonal of `A A^T`.
    private static let regularization = 1e-8

    /// Freezes the A of every adapter, before the model is divided.
    ///
    /// - Throws: ``TrainingError/notLoRA(path:)`` for an adapter that has no matrices A and B.
    package static func freeze(
        _ adapters: [(path: String, adapter: any AdapterPart)]
    ) throws {
        for (path, adapter) in adapters {
            guard let lora = adapter as? LoRA else { throw TrainingError.notLoRA(path: path) }
            try lora.loraA.freeze()
        }
    }

    /// Prepares the rule for adapters as they are.
    ///
    /// - Throws: `TorchError` if memory does not suffice; ``TrainingError/notLoRA(path:)``.
    package init(_ adapters: [(path: String, adapter: any AdapterPart)]) throws {
        var projections: [String: Projection] = [:]
        for (path, adapter) in adapters {
            guard let lora = adapter as? LoRA else { throw TrainingError.notLoRA(path: path) }
            try projections[lora.loraB.path] = Self.projection(
                lora.loraA.value.detach(), scaling: lora.target.scaling)
        }
        self.projections = projections
    }

    private static func projection(_ a: Tensor, scaling: Double) throws(TorchError) -> Projection {
        let rank = a.shape[0]
        guard !DryRun.isOn else { return Projection(rank: rank, matrix: []) }
        let wide = try a.to(.cpu).to(.float64)
        let product = try wide.matmul(wide.transposed()).contiguous()
        var gram = product.withUnsafeBytes { Array($0.bindMemory(to: Double.self)) }
        for index in 0..<rank { gram[index * rank + index] += regularization }
        let inverse = SymmetricInverse.of(gram, size: rank)
        return Projection(
            rank: rank, matrix: inverse.map { Float($0 / (scaling * scaling)) })
    }
}

extension LoRAFA: LocalUpdateRule {
    /// Two moments, `exp_avg` and `exp_avg_sq`.
    public func state(of piece: UpdatedPiece) -> [StateTensor] {
        [StateTensor("exp_avg", like: piece), StateTensor("exp_avg_sq", like: piece)]
    }

    /// A whole row of every B.
    public func granule(of parameters: [Parameter]) -> Int {
        parameters.compactMap { projections[$0.path]?.rank }.reduce(1) { first, second in
            first / Self.greatestCommonDivisor(first, second) * second
        }
    }

    private static func greatestCommonDivisor(_ first: Int, _ second: Int) -> Int {
        second == 0 ? first : greatestCommonDivisor(second, first % second)
    }

    /// Updates one tensor.
    public func update(
        _ update: TensorUpdate, state: [Tensor], step: Int
    ) throws(TorchError) {
        let gradient = try projected(update)
        let (first, second) = (state[0], state[1])
        try first.multiplyInPlace(beta1)
        try first.addInPlace(gradient, scaledBy: 1 - beta1)
        try second.multiplyInPlace(beta2)
        try second.addProductInPlace(gradient, gradient, scaledBy: 1 - beta2)
        let correction =
            (1 - pow(beta2, Double(step))).squareRoot() / (1 - pow(beta1, Double(step)))
        try update.value.addQuotientInPlace(
            first, second.sqrt() + epsilon, scaledBy: -update.learningRate * correction)
        if update.weightDecay != 0 {
            try update.value.multiplyInPlace(1 - update.learningRate * update.weightDecay)
        }
    }

    private func projected(_ update: TensorUpdate) throws(TorchError) -> Tensor {
        guard let projection = projections[update.piece.path], !DryRun.isOn else {
            return update.gradient
        }
        let rank = projection.rank
        let matrix = try Tensor(projection.matrix, shape: [rank, rank])
            .to(update.gradient.device)
        return try update.gradient.reshape([-1, rank]).matmul(matrix)
            .reshape(update.gradient.shape)
    }
}

/// The inverse of a positive definite matrix.
enum SymmetricInverse {
    /// By Gauss-Jordan elimination, without pivots, which such a matrix does not need.
    ///
    /// - Parameters:
    ///   - matrix: row-major, `[size, size]`.
    ///   - size: rows.
    /// - Returns: row-major.
    /// - Complexity: O(size^3).
    static func of(_ matrix: [Double], size: Int) -> [Double] {
        var left = matrix
        var right = Array(repeating: 0.0, count: size * size)
        for index in 0..<size { right[index * size + index] = 1 }
        for pivot in 0..<size {
            let scale = 1 / left[pivot * size + pivot]
            for column in 0..<size {
                left[pivot * size + column] *= scale
                right[pivot * size + column] *= scale
            }
            for row in 0..<size where row != pivot {
                let factor = left[row * size + pivot]
                for column in 0..<size {
                    left[row * size + column] -= factor * left[pivot * size + column]
                    right[row * size + column] -= factor * right[pivot * size + column]
                }
            }
        }
        return right
    }
}
