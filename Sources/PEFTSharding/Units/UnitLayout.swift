package import PEFTLayers
package import Torch

/// The frozen bytes of one unit as one flat buffer that is cut into equal shards.
///
/// Tensors lie one after the other, whatever their dtypes: they travel as bytes, so nothing can cast them. Offsets are multiples
/// of 64 bytes and of a tensor's granule, shards of the largest of these; so a shard begins and ends between quantization
/// blocks.
package struct UnitLayout: Sendable {
    /// What belongs together: `model.layers.3`.
    package let path: String
    /// The tensors in order.
    package let tensors: [PlacedShape]
    /// Where each tensor begins, in bytes.
    package let offsets: [Int]
    /// Bytes of one shard.
    package let shardBytes: Int
    /// Processes that hold a shard each.
    package let numShards: Int

    /// Offsets and shards suit vector loads.
    static let alignment = 64

    /// Lays tensors out.
    package init(path: String, tensors: [PlacedShape], numShards: Int) {
        self.path = path
        self.tensors = tensors
        self.numShards = numShards
        var offsets: [Int] = []
        var end = 0
        for tensor in tensors {
            let start = Self.rounded(end, to: Self.unit(of: tensor))
            offsets.append(start)
            end = start + tensor.sizeBytes
        }
        self.offsets = offsets
        let largest = tensors.map(Self.unit).max() ?? Self.alignment
        shardBytes = Self.rounded((end + numShards - 1) / numShards, to: largest)
    }

    /// Bytes of the whole, with what fills up the last shards.
    package var sizeBytes: Int { shardBytes * numShards }

    /// The elements of a tensor that are in a shard; empty at one of the tensor's ends if there are none.
    ///
    /// - Parameters:
    ///   - index: of the tensor in ``tensors``.
    ///   - shard: the shard's number.
    /// - Returns: elements, row-major.
    package func elements(of index: Int, inShard shard: Int) -> Range<Int> {
        let tensor = tensors[index]
        let itemBytes = tensor.dtype.sizeBytes
        func element(_ byte: Int) -> Int {
            min(max(0, (byte - offsets[index]) / itemBytes), tensor.numElements)
        }
        return element(shard * shardBytes)..<element((shard + 1) * shardBytes)
    }

    /// What a tensor's offset is a multiple of, in bytes.
    private static func unit(of tensor: PlacedShape) -> Int {
        max(alignment, tensor.granule * tensor.dtype.sizeBytes)
    }

    private static func rounded(_ count: Int, to multiple: Int) -> Int {
        (count + multiple - 1) / multiple * multiple
    }
}

/// Notes what a model consists of while it is built, without memory for any of it.
package final class LayoutPlan: TensorPlacement {
    /// The frozen tensors in order.
    package private(set) var tensors: [PlacedShape] = []

    /// Makes an empty plan.
    package init() {}

    /// Nothing is filled.
    package var isPlan: Bool { true }

    /// Notes a tensor.
    package func place(_ tensor: PlacedShape) throws -> PlacedTensor {
        tensors.append(tensor)
        let whole = try Tensor.zeros([1], dtype: tensor.dtype).expanded(tensor.shape)
        return PlacedTensor(whole: whole, range: 0..<0, own: nil)
    }

    /// There is nothing to complete.
    package func complete(_ tensor: Tensor, of name: String) {}

    /// Divides what was noted into units: each block, and each parameter outside of the blocks.
    ///
    /// Vectors outside of the blocks, such as the last norm, stay whole everywhere: a gather would cost more than they do.
    ///
    /// - Parameters:
    ///   - blocks: the paths of the decoder blocks.
    ///   - numShards: processes that hold a shard each.
    /// - Returns: one layout a unit, in the order of construction.
    package func layouts(blocks: [String], numShards: Int) -> [UnitLayout] {
        var order: [String] = []
        var groups: [String: [PlacedShape]] = [:]
        for tensor in tensors {
            let block = blocks.first { tensor.path.hasPrefix($0 + ".") }
            let unit = block ?? tensor.path
            if groups[unit] == nil { order.append(unit) }
            groups[unit, default: []].append(tensor)
        }
        return order.compactMap { unit in
            let tensors = groups[unit] ?? []
            let isVector = tensors.count == 1 && tensors[0].shape.count == 1
            guard !isVector || blocks.contains(unit) else { return nil }
            return UnitLayout(path: unit, tensors: tensors, numShards: numShards)
        }
    }
}
