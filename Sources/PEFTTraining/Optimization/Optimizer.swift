package import PEFTLayers
package import PEFTSharding
public import Torch

/// Updates the trainable tensors of a model by a rule, and keeps what the rule remembers.
public final class Optimizer {
    /// Learning rate and weight decay of each tensor.
    public struct Groups: Sendable, Hashable {
        /// The share of a tensor that decays at learning rate one; biases and norms do not.
        public var weightDecay = 0.0
        /// LoRA+; nil for one learning rate.
        public var loRAPlus: LoRAPlus?

        /// Makes one group without decay.
        public init(weightDecay: Double = 0, loRAPlus: LoRAPlus? = nil) {
            self.weightDecay = weightDecay
            self.loRAPlus = loRAPlus
        }
    }

    /// The tensors that it updates.
    package let parameters: [Parameter]
    private let pieces: [OwnParameter]
    private let wholes: [Parameter]
    private let ranks: RankGroup
    private let rule: any UpdateRule
    private let groups: Groups
    private let layout: [(path: String, tensors: [StateTensor])]
    private let memory: StateMemory
    /// Updates done so far.
    public private(set) var step = 0

    /// Makes an optimizer of every trainable tensor of a ready model.
    ///
    /// - Parameters:
    ///   - ready: the model whose tensors are updated.
    ///   - rule: how.
    ///   - groups: learning rates and decay.
    /// - Throws: `TorchError` if memory does not suffice.
    /// - Memory: what the rule keeps; eight bytes an element for ``AdamW``.
    public convenience init(
        _ ready: ReadyModel, rule: any UpdateRule, groups: Groups = Groups()
    ) throws {
        try self.init(
            ready.sharded.own, rule: rule, groups: groups,
            wholes: ready.sharded.trainableParameters, ranks: ready.ranks)
    }

    /// Makes an optimizer of tensors that belong to no ready model and are updated whole.
    package convenience init(
        _ parameters: [Parameter], rule: any UpdateRule, groups: Groups = Groups(),
        offloadFolder: String? = nil
    ) throws {
        try self.init(
            parameters.map { OwnParameter(whole: $0) }, rule: rule, groups: groups,
            wholes: parameters, ranks: RankGroup(), offloadFolder: offloadFolder)
    }

    /// Makes an optimizer of a process's pieces.
    ///
    /// - Parameters:
    ///   - pieces: what this process updates, float32.
    ///   - rule: how.
    ///   - groups: learning rates and decay.
    ///   - wholes: every trainable tensor of all processes.
    ///   - ranks: the processes.
    ///   - offloadFolder: on whose disk the state is kept, so that it takes no memory between updates; nil for memory. That of tensors
    ///     on a device goes to page-locked host memory instead.
    /// - Throws: `TorchError` if memory does not suffice, `OffloadFile.Failure` if the disk does not.
    package init(
        _ pieces: [OwnParameter], rule: any UpdateRule, groups: Groups, wholes: [Parameter],
        ranks: RankGroup, offloadFolder: String? = nil
    ) throws {
        self.pieces = pieces
        self.rule = rule
        self.groups = groups
        self.wholes = wholes
        self.ranks = ranks
        parameters = pieces.map(\.parameter)
        for parameter in parameters {
            precondition(parameter.isTrainable, "\(parameter.path) is frozen")
        }
        layout = pieces.map { ($0.whole.path, rule.state(of: UpdatedPiece($0))) }
        memory = try StateMemory(
            layout.flatMap(\.tensors), on: parameters.first?.value.device ?? .cpu,
            folder: offloadFolder)
    }

    /// Updates every parameter by its accumulated gradient, which may be overwritten; one without gradient stays.
    ///
    /// - Parameter learningRate: of this update.
    /// - Throws: `TorchError` if a gradient's shape does not fit; `CollectiveError` if another process is gone.
    public func update(learningRate: Double) throws {
        step += 1
        var tensors: [TensorUpdate] = []
        var position = 0
        for (piece, kept) in zip(pieces, layout) {
            let positions = position..<position + kept.tensors.count
            position = positions.upperBound
            guard let gradient = piece.parameter.value.grad else { continue }
            tensors.append(
                TensorUpdate(
                    piece: UpdatedPiece(piece), value: piece.parameter.value, gradient: gradient,
                    learningRate: learningRate * groups.learningRateRatio(of: piece.whole),
                    weightDecay: groups.weightDecay(of: piece.whole), whole: piece.whole,
                    memory: memory, positions: positions))
        }
        try withoutGrad {
            try rule.update(tensors, step: step, wholes: wholes, ranks: UpdatingRanks(ranks))
        }
    }

    /// Clears the gradients of all parameters.
    ///
    /// - Throws: `TorchError` if libtorch refuses.
    public func clearGradients() throws(TorchError) {
        for parameter in parameters {
            try parameter.value.setGrad(nil)
        }
    }
}

// MARK: - State

extension Optimizer {
    /// One tensor of the state under its name, `<parameter>.<kind>`.
    package struct Entry {
        /// The name in files.
        package let name: String
        /// What it is of the whole.
        package let layout: StateTensor
        /// Its numbers.
        package let tensor: Tensor
    }

    /// The state by name, in its order: for ``AdamW`` `<parameter>.exp_avg` and `<parameter>.exp_avg_sq`.
    package var state: [Entry] {
        zip(layout.flatMap { kept in kept.tensors.map { (kept.path, $0) } }, memory.tensors).map {
            Entry(name: "\($0.0).\($0.1.name)", layout: $0.1, tensor: $1)
        }
    }

    /// Runs what reads a tensor of the state; one that is offloaded leaves memory after it.
    package func reading<Result>(
        _ position: Int, _ body: (Tensor) throws -> Result
    ) throws -> Result {
        try memory.reading(position, body)
    }

    /// Takes over a saved state.
    ///
    /// - Parameters:
    ///   - tensors: every name of ``state``, in its shape.
    ///   - step: updates that the state has seen.
    /// - Throws: `TorchError` if a shape does not fit.
    package func restore(_ tensors: [String: Tensor], step: Int) throws {
        for (position, entry) in state.enumerated() {
            guard let saved = tensors[entry.name] else {
                throw TorchError(
                    operation: "Optimizer.restore", message: "\(entry.name) is missing")
            }
            try reading(position) { try $0.copyInPlace(from: saved) }
        }
        self.step = step
    }
}

// MARK: - Whose tensors they are

extension Optimizer {
    /// Refuses an optimizer that updates other tensors than those that are trained.
    ///
    /// Tensors are compared by identity: a copy has its own memory, so updating it trains nothing.
    ///
    /// - Parameter trainable: the trainable tensors of the ready model.
    /// - Throws: `Diagnosis` of ``DiagnosisCode/optimizerHoldsOthers`` that names the first difference.
    package func requireHolds(exactly trainable: [Parameter]) throws(Diagnosis) {
        for parameter in trainable
        where !parameters.contains(where: { $0.value.isSame(as: parameter.value) }) {
            let hasCopy = parameters.contains { $0.path == parameter.path }
            throw Self.difference(
                at: parameter.path,
                hasCopy
                    ? "the optimizer holds another tensor of this name, such as a stale copy"
                    : "the optimizer does not hold this trainable tensor")
        }
        for (index, parameter) in parameters.enumerated() {
            guard trainable.contains(where: { $0.value.isSame(as: parameter.value) }) else {
                throw Self.difference(
                    at: parameter.path, "the optimizer holds it, but it is not trained")
            }
            guard !parameters[..<index].contains(where: { $0.value.isSame(as: parameter.value) })
            else {
                throw Self.difference(at: parameter.path, "the optimizer holds it twice")
            }
        }
    }

    private static func difference(at path: String, _ reason: String) -> Diagnosis {
        Diagnosis(
            .optimizerHoldsOthers, at: path, reason,
            remedy: "make the optimizer from the model that is trained: Optimizer(ready, rule:)")
    }
}
