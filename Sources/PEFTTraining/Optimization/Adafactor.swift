import Foundation
public import PEFTLayers
import Torch

/// Adafactor with a given learning rate: of the second moment of a matrix, its row and column means are kept.
///
/// With `b = 1 - t^-0.8` and `s = g^2 + 1e-30`: `R = b R + (1 - b) mean of s over columns`, `C = b C + (1 - b) mean of s over rows`,
/// `u = g / sqrt(R C / mean(R))`, for vectors `u = g / sqrt(v)`; `u = u / max(1, rms(u))`; `p = p (1 - lr wd) - lr u`.
///
/// Of tensors that are divided over processes, row and column sums and the root mean square are those of the whole: two collectives an
/// update, of one number a row and column.
///
/// - Source: Shazeer and Stern 2018, "Adafactor", algorithms 4 and 5; transformers 5.23 `optimization.py:Adafactor` with
///   `scale_parameter=False, relative_step=False`, as its trainer makes it.
/// - Memory: a row of numbers and a column for each matrix; for a moment, one whole tensor.
public struct Adafactor: Sendable, Hashable {
    /// The exponent of the decay of the second moment.
    private static let decayExponent = -0.8
    /// Added to each squared gradient.
    private static let epsilon = 1e-30
    /// The root mean square above which an update is scaled down.
    private static let clipThreshold = 1.0

    /// Makes the rule.
    public init() {}
}

extension Adafactor: UpdateRule {
    /// `exp_avg_sq_row` and `exp_avg_sq_col` of a matrix, in every process that has a piece of it; `exp_avg_sq` of a vector.
    public func state(of piece: UpdatedPiece) -> [StateTensor] {
        guard let factors = Factors(piece.wholeShape) else {
            return [StateTensor("exp_avg_sq", like: piece)]
        }
        return [
            StateTensor("exp_avg_sq_row", whole: factors.rowShape),
            StateTensor("exp_avg_sq_col", whole: factors.columnShape),
        ]
    }

    /// Updates tensors in place; gradients are overwritten.
    public func update(
        _ tensors: [TensorUpdate], step: Int, wholes: [Parameter], ranks: UpdatingRanks
    ) throws {
        guard let device = wholes.first?.value.device else { return }
        let places = Places(wholes)
        let squares = try Tensor.zeros([places.count], dtype: .float64, on: device)
        for tensor in tensors {
            guard let place = places[tensor.whole] else { continue }
            try place.factors.addSquares(of: tensor, to: squares, at: place.offset)
        }
        try ranks.sum(squares, "Adafactor's rows and columns")
        let norms = try Tensor.zeros([wholes.count], dtype: .float64, on: device)
        let decay = 1 - pow(Double(step), Self.decayExponent)
        for tensor in tensors {
            let place = places[tensor.whole]
            try tensor.withState { state throws(TorchError) in
                let means = try place.map { place throws(TorchError) in
                    try place.factors.means(in: squares, at: place.offset)
                }
                try direction(of: tensor, means: means, decay: decay, state: state)
            }
            guard let index = wholes.firstIndex(where: { $0 === tensor.whole }) else { continue }
            let norm = try tensor.gradient.norm().to(.float64)
            try norms.narrow(0, index, 1).copyInPlace(from: norm * norm)
        }
        try ranks.sum(norms, "Adafactor's norms")
        for tensor in tensors {
            guard let index = wholes.firstIndex(where: { $0 === tensor.whole }) else { continue }
            try apply(tensor, squaredNorm: norms.narrow(0, index, 1))
        }
    }

    /// Takes the means of the squared gradient into the state, and divides the gradient by their root.
    private func direction(
        of tensor: TensorUpdate, means: (rows: Tensor, columns: Tensor)?, decay: Double,
        state: [Tensor]
    ) throws(TorchError) {
        func add(_ mean: Tensor, to average: Tensor) throws(TorchError) {
            try average.multiplyInPlace(decay)
            try average.addInPlace(mean.to(.float32).reshape(average.shape), scaledBy: 1 - decay)
        }
        guard let means, let factors = Factors(tensor.piece.wholeShape) else {
            let square = try tensor.gradient * tensor.gradient + Self.epsilon
            try add(square, to: state[0])
            try tensor.gradient.copyInPlace(from: state[0].rsqrt() * tensor.gradient)
            return
        }
        try add(means.rows, to: state[0])
        try add(means.columns, to: state[1])
        let scale = try factors.inverseRoot(rows: state[0], columns: state[1])
        let range = tensor.piece.range
        let own = try scale.reshape([-1]).narrow(0, range.lowerBound, range.count)
        try tensor.gradient.copyInPlace(
            from: own.reshape(tensor.gradient.shape) * tensor.gradient)
    }

    private func apply(
        _ tensor: TensorUpdate, squaredNorm: Tensor
    ) throws(TorchError) {
        let rootMeanSquare =
            try squaredNorm.sqrt()
            * (1 / (Double(tensor.piece.wholeCount).squareRoot() * Self.clipThreshold))
        // max(1, x) = 1 + (x - 1 + |x - 1|) / 2, the magnitude as a root, which dry runs know.
        let excess = try rootMeanSquare + -1
        let divisor = try (excess + (excess * excess).sqrt()) * 0.5 + 1
        let update = try tensor.gradient / divisor.to(.float32)
        if tensor.weightDecay != 0 {
            try tensor.value.multiplyInPlace(1 - tensor.weightDecay * tensor.learningRate)
        }
        try tensor.value.addInPlace(update, scaledBy: -tensor.learningRate)
    }

    /// A tensor of two or more dimensions as matrices of rows and columns.
    private struct Factors {
        let numMatrices: Int
        let numRows: Int
        let numColumns: Int
        /// One number a row, of every matrix.
        let rowShape: [Int]
        /// One number a column, of every matrix.
        let columnShape: [Int]

        /// Nil for a vector.
        init?(_ shape: [Int]) {
            guard shape.count >= 2 else { return nil }
            rowShape = Array(shape.dropLast())
            columnShape = Array(shape.dropLast(2)) + [shape[shape.count - 1]]
            numMatrices = shape.dropLast(2).reduce(1, *)
            numRows = shape[shape.count - 2]
            numColumns = shape[shape.count - 1]
        }

        private var shape: [Int] { [numMatrices, numRows, numColumns] }
        private var rowCount: Int { numMatrices * numRows }
        private var columnCount: Int { numMatrices * numColumns }
        /// Numbers that processes sum for the tensor.
        var count: Int { rowCount + columnCount }

        /// Puts the sums of this process's squared gradients over columns and over rows into a part of a vector.
        func addSquares(
            of tensor: TensorUpdate, to sums: Tensor, at offset: Int
        ) throws(TorchError) {
            let whole = try Tensor.zeros(
                [shape.reduce(1, *)], on: tensor.gradient.device)
            let square = try tensor.gradient * tensor.gradient + Adafactor.epsilon
            let range = tensor.piece.range
            try whole.narrow(0, range.lowerBound, range.count)
                .copyInPlace(from: square.reshape([range.count]))
            let matrices = try whole.reshape(shape)
            try sums.narrow(0, offset, rowCount)
                .copyInPlace(from: matrices.sum([2]).reshape([rowCount]))
            try sums.narrow(0, offset + rowCount, columnCount)
                .copyInPlace(from: matrices.sum([1]).reshape([columnCount]))
        }

        /// The means of all processes' squared gradients over columns and over rows.
        func means(
            in sums: Tensor, at offset: Int
        ) throws(TorchError) -> (rows: Tensor, columns: Tensor) {
            (
                try sums.narrow(0, offset, rowCount) * (1 / Double(numColumns)),
                try sums.narrow(0, offset + rowCount, columnCount) * (1 / Double(numRows))
            )
        }

        /// `1 / sqrt(R C / mean(R))`, in the tensor's order.
        func inverseRoot(rows: Tensor, columns: Tensor) throws(TorchError) -> Tensor {
            let rows = try rows.reshape([numMatrices, numRows, 1])
            let columns = try columns.reshape([numMatrices, 1, numColumns])
            return try (rows / rows.mean([1], keepDims: true)).rsqrt() * columns.rsqrt()
        }
    }

    /// Where each matrix's rows and columns are in the vector that the processes sum.
    private struct Places {
        private var places: [ObjectIdentifier: (factors: Factors, offset: Int)] = [:]
        private(set) var count = 0

        init(_ wholes: [Parameter]) {
            for whole in wholes {
                guard let factors = Factors(whole.value.shape) else { continue }
                places[ObjectIdentifier(whole)] = (factors, count)
                count += factors.count
            }
        }

        subscript(whole: Parameter) -> (factors: Factors, offset: Int)? {
            places[ObjectIdentifier(whole)]
        }
    }
}
