public import Torch

/// A frozen tensor as it is announced to a placement.
public struct PlacedShape: Hashable, Sendable {
    /// The parameter that it is, or belongs to: `model.layers.0.mlp.up_proj.weight`.
    public let path: String
    /// What it is of a parameter that is stored in several tensors: `absmax`; empty for the main one.
    public let part: String
    /// The extents.
    public let shape: [Int]
    /// The element type.
    public let dtype: DType
    /// Elements that must stay together, a power of two: those of a quantization block.
    public let granule: Int

    /// Describes a tensor.
    public init(path: String, part: String = "", shape: [Int], dtype: DType, granule: Int = 1) {
        self.path = path
        self.part = part
        self.shape = shape
        self.dtype = dtype
        self.granule = granule
    }

    /// The number of elements.
    public var numElements: Int { shape.reduce(1, *) }
    /// The bytes of the elements.
    public var sizeBytes: Int { numElements * dtype.sizeBytes }
    /// The name in messages: `model.layers.0.mlp.up_proj.weight absmax`.
    public var name: String { part.isEmpty ? path : "\(path) \(part)" }
}

/// A frozen tensor in its place: the whole for those that use it, and the part that this process fills.
public struct PlacedTensor {
    /// The tensor, of the announced shape; of a shard it has elements while its unit is gathered.
    public let whole: Tensor
    /// The elements, row-major over the whole, that this process keeps.
    public let range: Range<Int>
    /// The memory of these elements, `[range.count]`; nil if there is nothing to fill.
    public let own: Tensor?

    /// Describes a tensor in its place.
    public init(whole: Tensor, range: Range<Int>, own: Tensor?) {
        self.whole = whole
        self.range = range
        self.own = own
    }
}

/// Answers: where are the elements of a frozen tensor kept, and which of them does this process make.
///
/// A source that makes storages (4-bit codes and their scales) asks it for memory and fills what it gets. So a storage never
/// knows of processes, and a shard nothing of codes.
public protocol TensorPlacement: AnyObject {
    /// Whether tensors are only laid out: nothing is read or filled.
    var isPlan: Bool { get }

    /// Takes a tensor in; every tensor once, in the order of construction.
    ///
    /// - Throws: `TorchError` if memory does not suffice.
    func place(_ tensor: PlacedShape) throws -> PlacedTensor

    /// Completes a tensor of which each process has filled the elements that belong to its range, zeros elsewhere.
    ///
    /// - Parameters:
    ///   - tensor: float32; afterwards every process has all elements, bit for bit those that were filled.
    ///   - name: what it is, for errors.
    /// - Throws: an error that names the process that failed.
    func complete(_ tensor: Tensor, of name: String) throws
}

/// Everything in memory of its own: one process holds it all.
public final class WholePlacement: TensorPlacement {
    /// Makes the plain placement.
    public init() {}

    /// Tensors are filled, but for those of a dry run.
    public var isPlan: Bool { DryRun.isOn }

    /// New memory for all elements.
    public func place(_ tensor: PlacedShape) throws -> PlacedTensor {
        let whole = try Tensor.empty(tensor.shape, dtype: tensor.dtype)
        return PlacedTensor(
            whole: whole, range: 0..<tensor.numElements,
            own: try whole.reshape([tensor.numElements]))
    }

    /// Nothing is missing.
    public func complete(_ tensor: Tensor, of name: String) {}
}
