public import PEFTLayers
package import PEFTSharding
public import Torch

/// How tensors are updated by their gradients: what differs between optimizers.
///
/// A new rule is a new conformer in a file of its own and one line in ``OptimizerChoice``. ``Optimizer`` keeps its state, in memory or
/// out of it, divided over processes or not, and knows nothing of what it means.
public protocol UpdateRule: Sendable {
    /// What is kept for a tensor, or for the piece of one that this process updates.
    ///
    /// - Parameter piece: the tensor or piece.
    /// - Returns: in a fixed order; all zeros at first.
    func state(of piece: UpdatedPiece) -> [StateTensor]

    /// What the elements of a piece begin at a multiple of, in tensors so large that the state depends on where a piece begins.
    ///
    /// - Parameter parameters: every trainable tensor.
    /// - Returns: at least 1.
    func granule(of parameters: [Parameter]) -> Int

    /// Updates tensors in place; every process calls it at the same time.
    ///
    /// - Parameters:
    ///   - tensors: those that this process updates and that have gradients, which may be overwritten.
    ///   - step: the number of this update, from 1.
    ///   - wholes: every trainable tensor of all processes.
    ///   - ranks: the processes.
    /// - Throws: `TorchError`; `CollectiveError` if another process is gone.
    func update(
        _ tensors: [TensorUpdate], step: Int, wholes: [Parameter], ranks: UpdatingRanks) throws
}

extension UpdateRule {
    /// 1: a piece may begin anywhere.
    public func granule(of parameters: [Parameter]) -> Int { 1 }
}

/// A rule that updates each element by its own gradient and state, or by those of its block.
public protocol LocalUpdateRule: UpdateRule {
    /// Updates one tensor.
    ///
    /// - Parameters:
    ///   - update: the tensor, its gradient, rate and decay.
    ///   - state: what is kept for it, in the order of ``UpdateRule/state(of:)``.
    ///   - step: the number of this update, from 1.
    /// - Throws: `TorchError` if libtorch refuses.
    func update(_ update: TensorUpdate, state: [Tensor], step: Int) throws(TorchError)
}

extension LocalUpdateRule {
    /// Updates one tensor after the other.
    public func update(
        _ tensors: [TensorUpdate], step: Int, wholes: [Parameter], ranks: UpdatingRanks
    ) throws {
        for tensor in tensors {
            try tensor.withState { state throws(TorchError) in
                try update(tensor, state: state, step: step)
            }
        }
    }
}

/// A tensor that an optimizer updates, or the piece of one that this process updates.
public struct UpdatedPiece: Sendable {
    /// The name of the tensor.
    public let path: String
    /// The shape of what is updated here.
    public let shape: [Int]
    /// The shape of the whole tensor.
    public let wholeShape: [Int]
    /// Which elements of the whole tensor these are, row-major.
    public let range: Range<Int>

    package init(_ own: OwnParameter) {
        path = own.whole.path
        shape = own.parameter.value.shape
        wholeShape = own.whole.value.shape
        range = own.range
    }

    /// Elements of the whole tensor.
    package var wholeCount: Int { wholeShape.reduce(1, *) }
}

/// What is kept of one kind for a tensor or a piece of it.
public struct StateTensor: Hashable, Sendable {
    /// Its kind, as the reference names it: `exp_avg`.
    public let name: String
    /// The shape of what this process keeps.
    public let shape: [Int]
    /// The type of its elements.
    public let dtype: DType
    /// Which elements of the state of the whole tensor these are.
    public let range: Range<Int>
    /// The shape of the state of the whole tensor.
    public let wholeShape: [Int]

    /// One element for each of a piece.
    package init(_ name: String, like piece: UpdatedPiece, dtype: DType = .float32) {
        self.name = name
        self.dtype = dtype
        (shape, range, wholeShape) = (piece.shape, piece.range, piece.wholeShape)
    }

    /// One float32 for each block of elements.
    package init(_ name: String, of piece: UpdatedPiece, perBlockOf size: Int) {
        self.name = name
        dtype = .float32
        func blocks(_ count: Int) -> Int { (count + size - 1) / size }
        range = piece.range.lowerBound / size..<blocks(piece.range.upperBound)
        shape = [range.count]
        wholeShape = [blocks(piece.wholeCount)]
    }

    /// The same in every process that has a piece.
    package init(_ name: String, whole shape: [Int]) {
        self.name = name
        dtype = .float32
        (self.shape, wholeShape) = (shape, shape)
        range = 0..<shape.reduce(1, *)
    }

    /// Bytes that it takes.
    package var sizeBytes: Int { shape.reduce(dtype.sizeBytes, *) }
}

/// One tensor in one update.
public struct TensorUpdate {
    /// The tensor, or the piece of one.
    public let piece: UpdatedPiece
    /// The numbers to update: float32, without gaps.
    public let value: Tensor
    /// Their gradients.
    public let gradient: Tensor
    /// The learning rate of this update.
    public let learningRate: Double
    /// The share that decays at learning rate one.
    public let weightDecay: Double
    /// Where the tensor is among all trainable ones.
    package let whole: Parameter
    package let memory: StateMemory
    package let positions: Range<Int>

    /// Gives a body the tensor's state on its device; state kept elsewhere goes back there after it.
    package func withState(
        _ body: ([Tensor]) throws(TorchError) -> Void
    ) throws(TorchError) {
        try memory.using(positions, body)
    }
}

/// The processes of an update, for rules that need sums over a whole tensor.
public struct UpdatingRanks {
    private let shards: ProcessGroup?

    package init(_ ranks: RankGroup) { shards = ranks.shards }

    /// Adds up what the processes have that together hold every tensor once, in place.
    package func sum(_ tensor: Tensor, _ label: String) throws {
        try shards?.allReduce(tensor, label: label)
    }
}
