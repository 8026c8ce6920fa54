import Torch

/// Sums tensors of one shape by weights, perhaps after pruning and a vote on signs.
///
/// - Source: peft 0.21.2 `utils/merge_utils.py`. Of elements of equal magnitude the first are kept; libtorch's `topk`, which PEFT
///   takes, keeps any of them.
struct TaskArithmetic {
    /// How, and with what density.
    let combination: AdapterCombination
    /// Draws what random pruning keeps: 1 for an element that stays, else 0.
    let kept: (_ shape: [Int], _ density: Double) throws(TorchError) -> Tensor

    /// The combined tensor.
    ///
    /// - Parameters:
    ///   - tensors: float32 matrices of one shape.
    ///   - weights: one a tensor; rounded to float32.
    /// - Returns: float32 of that shape.
    /// - Throws: `TorchError` if memory does not suffice.
    /// - Memory: a few times all tensors.
    func callAsFunction(_ tensors: [Tensor], weights: [Double]) throws(TorchError) -> Tensor {
        var pruned: [Tensor] = []
        for tensor in tensors { pruned.append(try self.pruned(tensor)) }
        let stacked = try Tensor.stacked(pruned)
        let factors = try Tensor(weights.map(Float.init), shape: [weights.count, 1, 1])
        let weighted = try stacked * factors
        guard combination.type.electsSigns else { return try weighted.sum([0]) }
        let agrees = try hasMajoritySign(stacked)
        let sum = try (weighted * agrees).sum([0])
        let count = try agrees.sum([0])
        let atLeastOne = try count + (count.sign().negated() + 1)
        return try sum / atLeastOne
    }

    /// A tensor without the elements that are left out.
    private func pruned(_ tensor: Tensor) throws(TorchError) -> Tensor {
        guard let density = combination.density, density < 1 else { return tensor }
        switch combination.type.pruning {
        case .none: return tensor
        case .smallest: return try tensor * largest(tensor, density)
        case .random:
            // A quotient by a tensor: a product with the reciprocal would be rounded otherwise.
            let scale = try Tensor.full([], Double(Float(density)), dtype: .float32)
            return try tensor * kept(tensor.shape, density) / scale
        }
    }

    /// 1 where an element is among the largest in magnitude, else 0.
    private func largest(_ tensor: Tensor, _ density: Double) throws(TorchError) -> Tensor {
        let numElements = tensor.shape.reduce(1, *)
        let numKept = Int(density * Double(numElements))
        let order = try tensor.abs().reshape([numElements]).sorted(descending: true).indices
        let mask = try Tensor.zeros([numElements]).indexAdded(
            0, order.narrow(0, 0, numKept), Tensor.ones([numKept]))
        return try mask.reshape(tensor.shape)
    }

    /// 1 where an element has the sign that wins over the first dimension, else 0; a tie is positive, zeros have no sign.
    private func hasMajoritySign(_ stacked: Tensor) throws(TorchError) -> Tensor {
        let sign = try stacked.sign()
        let votes =
            switch combination.majoritySignMethod {
            case .total: try stacked.sum([0])
            case .frequency: try sign.sum([0])
            }
        let majority = try (votes.sign() * 2 + 1).sign()
        return try (sign * majority + sign.abs()) * 0.5
    }
}

// MARK: - Products of low rank

/// A matrix as the product of two, `left right`, with the singular values in the left one.
struct SplitMatrix {
    /// `[m, rank]`.
    let left: Tensor
    /// `[rank, n]`.
    let right: Tensor

    /// Splits a matrix, keeping its largest singular values.
    ///
    /// - Parameters:
    ///   - matrix: float32 `[m, n]`.
    ///   - rank: of the product; what the matrix does not have is filled with zeros.
    /// - Throws: `TorchError` if an element is not finite, or if memory does not suffice.
    init(_ matrix: Tensor, rank: Int) throws(TorchError) {
        let (u, s, vt) = try matrix.svd()
        try self.init(u * s, vt, rank: rank)
    }

    /// Splits the product of two thin matrices without computing it: an orthonormal basis of each side, and the small matrix between.
    ///
    /// - Parameters:
    ///   - left: float32 `[m, k]`.
    ///   - right: float32 `[k, n]`.
    ///   - rank: as above.
    /// - Throws: as above.
    init(productOf left: Tensor, _ right: Tensor, rank: Int) throws(TorchError) {
        let (leftBasis, leftRest) = try left.qr()
        let (rightBasis, rightRest) = try right.transposed().contiguous().qr()
        let (u, s, vt) = try leftRest.matmul(rightRest.transposed()).svd()
        try self.init(
            leftBasis.matmul(u * s), vt.matmul(rightBasis.transposed()), rank: rank)
    }

    private init(_ left: Tensor, _ right: Tensor, rank: Int) throws(TorchError) {
        let found = min(rank, right.shape[0])
        self.left = try padded(left.narrow(1, 0, found), 1, to: rank)
        self.right = try padded(right.narrow(0, 0, found), 0, to: rank)
    }

    /// Takes two matrices as they are.
    init(left: Tensor, right: Tensor) {
        self.left = left
        self.right = right
    }

    /// The same with no element beyond a quantile of all elements of both.
    ///
    /// - Source: `torch.quantile`, linear between elements; the place is computed in float32, as there.
    func clamped(to quantile: Double) throws(TorchError) -> SplitMatrix {
        let (left, right) = (try self.left.floats(), try self.right.floats())
        let all = (left + right).sorted()
        let place = Float(quantile) * Float(all.count - 1)
        let below = Int(place.rounded(.down))
        let (low, high) = (all[below], all[min(below + 1, all.count - 1)])
        let share = place - Float(below)
        let limit =
            share < 0.5 ? low + share * (high - low) : high - (high - low) * (1 - share)
        func limited(_ values: [Float], _ shape: [Int]) throws(TorchError) -> Tensor {
            try Tensor(values.map { min(max($0, -limit), limit) }, shape: shape)
        }
        return SplitMatrix(
            left: try limited(left, self.left.shape),
            right: try limited(right, self.right.shape))
    }
}

/// A matrix with zeros after its last row or column.
func padded(_ matrix: Tensor, _ dim: Int, to size: Int) throws(TorchError) -> Tensor {
    let missing = size - matrix.shape[dim]
    guard missing > 0 else { return try matrix.contiguous() }
    var shape = matrix.shape
    shape[dim] = missing
    return try .concatenated([matrix, Tensor.zeros(shape, dtype: matrix.dtype)], dim: dim)
}
