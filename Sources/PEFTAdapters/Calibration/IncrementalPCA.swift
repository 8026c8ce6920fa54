import Torch

/// Principal components of rows that come in batches.
///
/// Of the components so far, scaled by their singular values, of the new rows around their mean and of what the means differ by, the singular
/// value decomposition gives the components of all rows, up to what was dropped before.
///
/// - Memory: the components, and twice the batch's rows in float64 while they are added.
/// - Source: Ross et al. 2008, "Incremental Learning for Robust Visual Tracking"; peft 0.21.2 `utils/incremental_pca.py:IncrementalPCA` with
///   `lowrank=True, lowrank_seed=42`: the same random numbers, and so the same components up to rounding.
struct IncrementalPCA {
    /// The number of components.
    let numComponents: Int
    /// Orthonormal rows `[numComponents, features]`, the largest first; nil before the first batch.
    private(set) var components: Tensor?
    /// The singular values, `[numComponents]`.
    private(set) var singularValues: Tensor?
    /// The share of each component in the variance of all rows.
    private(set) var explainedVarianceRatio: [Double] = []

    private var numRows = 0
    private var mean: Tensor?
    private var variance: Tensor?

    private static let seed: UInt64 = 42
    private static let iterations = 4

    /// Looks for so many components.
    init(numComponents: Int) { self.numComponents = numComponents }

    /// Takes in rows.
    ///
    /// - Parameter rows: `[n, features]`, float32; n and features are at least ``numComponents``.
    /// - Throws: `TorchError` if memory does not suffice, or for elements that are not finite.
    mutating func add(_ rows: Tensor) throws(TorchError) {
        let count = rows.shape[0]
        let total = numRows + count
        let values = try rows.to(.float64)
        let sum = try values.sum([0])
        let deviations = try values - sum * (1 / Double(count))
        let correction = try deviations.sum([0]).power(2) * (1 / Double(count))
        var squares = try deviations.power(2).sum([0]) - correction
        let matrix: Tensor
        if let components, let singularValues, let mean, let variance {
            let ratio = Double(numRows) / Double(count)
            let lastSum = try mean * Double(numRows)
            let shift = try (lastSum * (1 / ratio) - sum).power(2) * (ratio / Double(total))
            squares = try variance * Double(numRows) + squares + shift
            let batchMean = try rows.mean([0])
            let factor = (Double(numRows) / Double(total) * Double(count)).squareRoot()
            matrix = try Tensor.concatenated([
                (singularValues.reshape([-1, 1]) * components).to(.float64),
                (rows - batchMean).to(.float64),
                ((mean - batchMean) * factor).reshape([1, -1]),
            ])
            self.mean = try (lastSum + sum) * (1 / Double(total))
        } else {
            let first = try sum * (1 / Double(total))
            mean = first
            matrix = try (values - first).to(.float32)
        }
        variance = try squares * (1 / Double(total))
        numRows = total
        try decompose(matrix, variance: squares.sum().item())
    }

    private mutating func decompose(
        _ matrix: Tensor, variance: Double
    ) throws(TorchError) {
        let numbers = try Tensor.normal(
            [matrix.shape.min() ?? 1, 2 * numComponents], dtype: matrix.dtype,
            generator: Generator(seed: Self.seed))
        let (_, s, vt) = try LoRAInitialization.approximateSVD(
            matrix, numbers, iterations: Self.iterations)
        let signs = try Self.signs(of: vt)
        components = try (vt * signs.to(vt.dtype)).narrow(0, 0, numComponents).contiguous()
        let kept = try s.narrow(0, 0, numComponents).contiguous()
        singularValues = kept
        explainedVarianceRatio = try kept.doubles().map { $0 * $0 / variance }
    }

    /// 1 or -1 for each row: with it, its largest element is positive, because singular vectors have no sign of their own.
    private static func signs(of rows: Tensor) throws(TorchError) -> Tensor {
        let (elements, width) = (try rows.doubles(), rows.shape[1])
        let signs = (0..<rows.shape[0]).map { row -> Float in
            let largest = elements[row * width..<(row + 1) * width].max { abs($0) < abs($1) }
            return (largest ?? 0) < 0 ? -1 : 1
        }
        return try Tensor(signs, shape: [signs.count, 1])
    }

    /// The cosine between each component and the same one of an earlier state.
    func similarity(to earlier: Tensor) throws(TorchError) -> [Double] {
        guard let components else { return [] }
        let (new, old) = (try components.to(.float64), try earlier.to(.float64))
        let lengths = try (new.power(2).sum([1]) * old.power(2).sum([1])).sqrt()
        return try ((new * old).sum([1]) / lengths).doubles()
    }
}
