package import PEFTLayers
import Torch

/// The trainable tensors of a unit as one flat float32 buffer, of which the optimizer of each rank updates a shard.
///
/// The tensors that the adapters hold become views of the gathered buffer. Gradients go the other way: those of the whole are
/// summed over the ranks in float64, and each rank keeps the sum of its shard. Only the sum of the whole step is rounded to float32, so
/// that the number of ranks does not show (``GradientSums``).
final class TrainableUnit {
    /// What it is, in messages.
    let name: String
    /// The whole tensors, which the model computes with.
    let parameters: [Parameter]
    /// What this rank's optimizer updates: the pieces of the tensors that are in its shard; the tensors themselves where every
    /// rank updates all.
    let own: [OwnParameter]
    /// Gathers the whole; nil where every rank has it.
    let buffer: ShardedBuffer?

    private let ranks: RankGroup
    private let device: Device
    private let offsets: [Int]
    private let shardCount: Int
    private var pending: (work: CollectiveWork?, whole: Tensor, own: Tensor)?
    private var reduced: Tensor?

    /// Shards of adapters suit vector loads of float32.
    private static let granule = 16

    /// Divides the trainable tensors of a unit; their values are kept.
    ///
    /// Pieces of a tensor begin at multiples of `granule` elements.
    init(
        name: String, parameters: [Parameter], ranks: RankGroup, pool: BufferPool?, granule: Int
    ) throws(TorchError) {
        self.name = name
        self.parameters = parameters
        self.ranks = ranks
        device = parameters.first?.value.device ?? .cpu
        var offsets: [Int] = []
        var count = 0
        for parameter in parameters {
            precondition(parameter.value.dtype == .float32, "adapters are trained in float32")
            count = (count + granule - 1) / granule * granule
            offsets.append(count)
            count += parameter.value.numElements
        }
        self.offsets = offsets
        let numShards = ranks.numShards
        let perShard = (count + numShards - 1) / numShards
        let step = granule.isMultiple(of: Self.granule) ? granule : granule * Self.granule
        shardCount = (perShard + step - 1) / step * step
        guard numShards > 1 else {
            buffer = nil
            own = parameters.map { OwnParameter(whole: $0) }
            return
        }
        let shardBytes = shardCount * DType.float32.sizeBytes
        let buffer = try ShardedBuffer(
            name: name, shardBytes: shardBytes, group: ranks.shards, pool: pool, on: device,
            shard: ShardMemory(sizeBytes: shardBytes, on: device))
        let shard = try buffer.shard.bytes()
        let range = ranks.shardIndex * shardCount..<(ranks.shardIndex + 1) * shardCount
        var own: [OwnParameter] = []
        for (parameter, offset) in zip(parameters, offsets) {
            let piece = range.clamped(to: offset..<(offset + parameter.value.numElements))
            if !piece.isEmpty {
                let inTensor = (piece.lowerBound - offset)..<(piece.upperBound - offset)
                own.append(
                    try Self.piece(
                        of: parameter, inTensor, in: shard,
                        at: piece.lowerBound - range.lowerBound))
            }
            try parameter.value.adopt(
                buffer.whole.view(
                    atByte: offset * DType.float32.sizeBytes, shape: parameter.value.shape,
                    dtype: .float32))
        }
        self.buffer = buffer
        self.own = own
    }

    /// Copies a part of a tensor into the shard and names it.
    private static func piece(
        of parameter: Parameter, _ range: Range<Int>, in shard: Tensor, at offset: Int
    ) throws(TorchError) -> OwnParameter {
        let value = try shard.view(
            atByte: offset * DType.float32.sizeBytes, shape: [range.count], dtype: .float32)
        try withoutGrad { () throws(TorchError) in
            let whole = try parameter.value.detach().contiguous().reshape([-1])
            try value.copyInPlace(from: whole.narrow(0, range.lowerBound, range.count))
        }
        return OwnParameter(
            try Parameter(path: parameter.path, value: value, isTrainable: true),
            whole: parameter, range: range)
    }

    // MARK: - Gradients

    /// Begins to sum the gradients over the ranks; they are taken from the sums of this rank.
    func startReduction(of sums: GradientSums) throws {
        let whole = try Tensor.zeros(
            [shardCount * ranks.numShards], dtype: .float64, on: device)
        try withoutGrad {
            for (parameter, offset) in zip(parameters, offsets) {
                guard let gradient = try sums.take(parameter) else { continue }
                let count = gradient.numElements
                try whole.narrow(0, offset, count).copyInPlace(from: gradient.reshape([count]))
            }
        }
        let label = "gradients of \(name)"
        guard let shards = ranks.shards else {
            // All ranks are replicas of each other: their sum is the whole reduction.
            pending = (try ranks.replicas?.startAllReduce(whole, label: label), whole, whole)
            return
        }
        let own = try Tensor.empty([shardCount], dtype: .float64, on: device)
        pending = (try shards.startReduceScatter(whole, into: own, label: label), whole, own)
    }

    /// Waits for the sum and adds it to those of earlier micro-batches.
    func finishReduction() throws {
        guard let pending else { return }
        try pending.work?.wait()
        self.pending = nil
        if ranks.shards != nil {
            try ranks.replicas?.allReduce(pending.own, label: "gradients of \(name), replicas")
        }
        guard let reduced else {
            self.reduced = pending.own
            return
        }
        try withoutGrad { try reduced.addInPlace(pending.own) }
    }

    /// Gives what the optimizer updates the summed gradients, rounded to float32 once.
    func handOverGradients() throws {
        guard let reduced = try reduced?.to(.float32) else { return }
        self.reduced = nil
        let first = ranks.shardIndex * shardCount
        for (parameter, offset) in zip(parameters, offsets) {
            for own in own where own.whole === parameter {
                let start = offset + own.range.lowerBound - first
                try own.parameter.value.setGrad(
                    reduced.narrow(0, start, own.range.count).reshape(own.parameter.value.shape))
            }
        }
    }

    /// Forgets gradients, summed or not.
    func clearGradients() throws {
        try finishReduction()
        reduced = nil
        for parameter in parameters { try parameter.value.setGrad(nil) }
        for own in own { try own.parameter.value.setGrad(nil) }
    }
}

/// A piece of a trainable tensor that this rank's optimizer updates.
package struct OwnParameter {
    /// The elements, `[range.count]`, under the tensor's path; the tensor itself where it is updated whole.
    package let parameter: Parameter
    /// The tensor that they are a piece of.
    package let whole: Parameter
    /// Which elements of the tensor they are, row-major.
    package let range: Range<Int>

    /// Names a piece.
    package init(_ parameter: Parameter, whole: Parameter, range: Range<Int>) {
        self.parameter = parameter
        self.whole = whole
        self.range = range
    }

    /// A tensor that is updated as a whole.
    package init(whole: Parameter) {
        self.init(whole, whole: whole, range: 0..<whole.value.numElements)
    }
}
