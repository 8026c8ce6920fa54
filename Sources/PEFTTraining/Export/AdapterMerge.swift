import PEFTAdapters
import PEFTLayers
import Torch

/// What an adapter makes of the tensors of its base, path by path.
///
/// Each part of an adapter is a change of one or two tensors: an update of a weight, a bias, a table, rows of one, or a tensor of its own
/// in the place of the base's.
struct AdapterMerge {
    /// The new numbers of one tensor from the base's, both float32 of one shape.
    typealias Change = (Tensor) throws -> Tensor

    /// The name of a head that is tied in the base and not any more, because it and the embedding become different; nil for none.
    private(set) var untiedHead: String?
    /// The changes of each tensor, in the order in which they are made.
    private var changes: [String: [Change]] = [:]

    /// Finds out which tensors the parts of an adapter change.
    ///
    /// - Parameters:
    ///   - set: what was attached to the plan's layers; nil for no adapter.
    ///   - plan: the base.
    /// - Throws: ``MergeError`` for a part that is no change of the base's tensors; `TorchError`.
    init(_ set: AdapterSet?, to plan: ModelPlan) throws {
        let registry = plan.registry
        let head = registry.headPath.map { $0 + ".weight" }
        let linears = Dictionary(
            registry.linears.map { ($0.path, $0) }, uniquingKeysWith: { first, _ in first })
        let tables = Dictionary(
            registry.embeddings.map { ($0.path, $0) }, uniquingKeysWith: { first, _ in first })
        // A trained bias comes before what a LoRA adds to it.
        let adapters = set?.adapters ?? []
        let isTrainedWhole = { (part: any AdapterPart) in part is TrainedTensor }
        for (path, part) in adapters.filter({ isTrainedWhole($0.adapter) })
            + adapters.filter({ !isTrainedWhole($0.adapter) })
        {
            if let tensor = part as? TrainedTensor {
                add(to: path) { _ in try tensor.parameter.value.detach() }
            } else if let adapter = part as? any LinearAdapter, let linear = linears[path] {
                try add(adapter, of: linear)
            } else if let adapter = part as? any EmbeddingAdapter, let table = tables[path] {
                add(to: table.weight.path) {
                    try Self.required(adapter.merged(into: $0), path, adapter)
                }
            } else {
                throw MergeError.notMergeable(
                    path: path, method: String(describing: type(of: part)))
            }
        }
        guard let head, plan.isHeadTied else { return }
        let keepsTied = set.map { Self.keepsTied($0, table: plan.embedding, head: head) } ?? true
        if keepsTied { changes[head] = nil }
        let isChanged = changes[head] != nil || changes[plan.embedding] != nil
        untiedHead = isChanged && !keepsTied ? head : nil
    }

    private mutating func add(to path: String, _ change: @escaping Change) {
        changes[path, default: []].append(change)
    }

    private mutating func add(_ adapter: any LinearAdapter, of linear: Linear) throws {
        add(to: linear.weightPath) {
            try Self.required(adapter.merged(into: $0), linear.path, adapter)
        }
        guard let update = try adapter.biasUpdate() else { return }
        guard let bias = linear.bias else { throw MergeError.noBias(path: linear.path) }
        add(to: bias.path) { try $0 + update }
    }

    private static func required(
        _ merged: Tensor?, _ path: String, _ part: any AdapterPart
    ) throws(MergeError) -> Tensor {
        guard let merged else {
            throw .notMergeable(path: path, method: String(describing: type(of: part)))
        }
        return merged
    }

    /// Whether the adapter trains one tensor for a table and the head that is tied to it.
    private static func keepsTied(_ set: AdapterSet, table: String, head: String) -> Bool {
        if set.repeated["base_model.model." + head] != nil { return true }
        func parameters(_ path: String) -> [ObjectIdentifier]? {
            set.adapters.first { $0.path + ".weight" == path }
                .map { $0.adapter.parameters.map { ObjectIdentifier($0) } }
        }
        guard let ofHead = parameters(head) else { return false }
        return parameters(table) == ofHead
    }

    /// Whether a tensor is another one with the adapter.
    func changes(_ path: String) -> Bool { changes[path] != nil }

    /// The numbers of a tensor with the adapter.
    ///
    /// - Parameters:
    ///   - base: the base's, float32; stays as it is.
    ///   - path: the tensor's.
    /// - Returns: float32 of the same shape; the base's own where nothing changes.
    /// - Throws: ``MergeError`` for a method that is more than a change of the tensor; `TorchError`.
    /// - Memory: a new tensor or two of that size.
    func merged(into base: Tensor, at path: String) throws -> Tensor {
        try (changes[path] ?? []).reduce(base) { try $1($0) }
    }
}

extension Linear {
    /// The path of the tensor that the files hold of the weight.
    var weightPath: String { parameter?.path ?? path + ".weight" }
}
