package import Torch

/// Which of the blocks of its files each block of a model is, so that a deeper model is made of the blocks of another one.
///
/// - Source: peft 0.21.2 `tuners/tuners_utils.py:replicate_layers`.
public struct BlockOrder: Hashable, Sendable {
    /// For each block of the model, in order, the index of the files' block.
    public let blocks: [Int]

    /// Takes an order.
    ///
    /// - Precondition: there is a block, and no index is below 0.
    public init(_ blocks: [Int]) {
        precondition(!blocks.isEmpty && blocks.allSatisfy { $0 >= 0 }, "a model has blocks")
        self.blocks = blocks
    }

    /// The name in the files of a tensor of the model: the first number in it is the index of its block.
    package func nameInFiles(_ path: String) -> String {
        var parts = path.split(separator: ".", omittingEmptySubsequences: false).map(String.init)
        for (position, part) in parts.enumerated() {
            guard let index = Int(part) else { continue }
            // A model that has more blocks does not know of the order, which is an error once it is made.
            if blocks.indices.contains(index) { parts[position] = "\(blocks[index])" }
            break
        }
        return parts.joined(separator: ".")
    }
}

/// Answers for each block of a model with the tensors of the files' block that it is.
///
/// - Memory: if copies share their tensors, those of the other source; else as many as blocks ask for.
package final class ReplicatedSource: ParameterSource {
    private let base: any ParameterSource
    private let order: BlockOrder
    private let isShared: Bool
    private var tensors: [String: Tensor] = [:]
    private var weights: [String: any LinearWeight] = [:]

    /// Decorates a source.
    ///
    /// - Parameters:
    ///   - base: answers by the names of the files, and is asked once for each if copies share.
    ///   - order: which block is which.
    ///   - isShared: whether copies share their tensors; each has its own where they are divided over processes.
    package init(_ base: any ParameterSource, order: BlockOrder, isShared: Bool) {
        (self.base, self.order, self.isShared) = (base, order, isShared)
    }

    /// The tensor of the files' block.
    package func tensor(at path: String, shape: [Int]) throws -> Tensor {
        let name = order.nameInFiles(path)
        if let known = tensors[name] { return known }
        let tensor = try base.tensor(at: name, shape: shape)
        if isShared { tensors[name] = tensor }
        return tensor
    }

    /// Elements of the tensor of the files' block.
    package func elements(_ range: Range<Int>, at path: String, shape: [Int]) throws -> Tensor {
        try base.elements(range, at: order.nameInFiles(path), shape: shape)
    }

    /// The weight of the files' block; dense elements under a name of their own, since an adapter may replace one copy's.
    package func linearWeight(at path: String, shape: [Int]) throws -> any LinearWeight {
        let name = order.nameInFiles(path)
        let weight = try weights[name] ?? base.linearWeight(at: name, shape: shape)
        if isShared { weights[name] = weight }
        guard let elements = weight.replaceable?.original else { return weight }
        return DenseWeight(try Parameter(path: path, value: elements, isTrainable: false))
    }
}
