public import PEFTData
public import PEFTLayers
import PEFTModels
package import PEFTSharding
import Torch

/// The last stage before training: a model whose loss was shown to reach every trainable tensor.
///
/// Only ``init(checking:sample:)`` makes one, and the optimizer takes its parameters from one: a model that cannot learn
/// does not get to step 0.
public final class ReadyModel {
    /// The network with its adapter.
    public let adapted: AdaptedModel
    /// How its blocks are run.
    public let execution: any BlockExecution
    /// The tensors that the optimizer updates; in several processes this one's pieces of them.
    public let trainableParameters: [Parameter]
    /// For each of these, its place in the order of all trainable tensors.
    let wholes: [Int]
    /// The model in its units.
    let sharded: ShardedModel
    /// How the model is divided over processes; nil in one process.
    package var shards: ModelShards? { sharded.shards }
    /// The processes of the run.
    var ranks: RankGroup { shards?.ranks ?? RankGroup() }
    /// What was proved, tensor by tensor.
    public let gradients: GradientReport
    /// The rows that it was proved on.
    public let sample: TokenBatch
    /// The block of each trainable tensor; nil around the blocks.
    let blocks: [String?]

    /// Tokens of the sample that the check uses; connectivity does not depend on more.
    static let maxSampleTokens = 32

    /// Proves on real tokens that the loss depends on every trainable tensor and that all gradients are finite.
    ///
    /// Forward and backward are those of training, recomputation included.
    ///
    /// - Parameters:
    ///   - sharded: the model.
    ///   - sample: rows of the training data with at least one target.
    /// - Throws: ``Diagnosis`` naming where the path from the loss is cut, or why nothing is trained.
    /// - Complexity: one small forward and backward pass; two more to find out what is wrong.
    public convenience init(checking sharded: ShardedModel, sample: TokenBatch) throws {
        try self.init(
            sharded, proof: Self.report(on: sharded, sample: sample), sample: sample)
    }

    /// Takes a report on the model as the proof.
    ///
    /// - Throws: the report's first ``Diagnosis``.
    init(
        _ sharded: ShardedModel, proof report: GradientReport, sample: TokenBatch
    ) throws(Diagnosis) {
        try report.verify()
        self.sample = sample
        blocks = report.entries.map(\.block)
        adapted = sharded.adapted
        execution = sharded.execution
        self.sharded = sharded
        trainableParameters = sharded.own.map(\.parameter)
        let order = Dictionary(
            uniqueKeysWithValues: sharded.trainableParameters.enumerated().map {
                (ObjectIdentifier($1), $0)
            })
        wholes = sharded.own.map { piece in
            guard let index = order[ObjectIdentifier(piece.whole)] else {
                preconditionFailure("\(piece.whole.path) is not trainable")
            }
            return index
        }
        gradients = report
    }

    /// What the check finds, be it good or bad.
    ///
    /// - Throws: ``Diagnosis`` if nothing is trainable or learned; what the model throws.
    package static func report(
        on sharded: ShardedModel, sample: TokenBatch
    ) throws -> GradientReport {
        guard !sharded.trainableParameters.isEmpty else {
            throw nothingTrainable(sharded.adapted)
        }
        guard sample.numTargetTokens > 0 else {
            throw Diagnosis(
                .noTargets, at: "the rows", "no token of them is a target, so the loss is empty",
                remedy: "unset completion_only_loss or assistant_only_loss, or mask fewer labels")
        }
        let context = ForwardContext(
            layout: SequenceLayout(segmentLengths: sample.segmentLengths))
        let share = 1 / Double(sample.numTargetTokens)
        return try GradientReport(
            of: sharded.subjects, frozen: sharded.adapted.base.registry.frozenParameters
        ) {
            let losses = try sharded.adapted.base.model.losses(
                tokens: sample.tokens, targets: sample.targets, context: context,
                execution: sharded.execution)
            return try losses.sum * share
        }
    }

    /// Runs a part of the work on rank 0 alone; see `ModelShards.onMain`.
    func onMain(_ label: String, _ body: () throws -> Void) throws {
        guard let shards else { return try body() }
        try shards.onMain(label, body)
    }

    private static func nothingTrainable(_ adapted: AdaptedModel) -> Diagnosis {
        guard adapted.isTrainable else {
            return Diagnosis(
                .adapterIsFrozen, at: "the adapter",
                "it was loaded for inference, so none of its tensors is trainable",
                remedy: "load it with AdaptedModel(base, loading: folder, isTrainable: true)")
        }
        return Diagnosis(
            .nothingTrainable, at: "the model", "no tensor of it is trainable",
            remedy: "attach an adapter whose target_modules match layers")
    }
}
