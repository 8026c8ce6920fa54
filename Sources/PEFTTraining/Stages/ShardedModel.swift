package import Foundation
import PEFTAdapters
public import PEFTLayers
import PEFTModels
package import PEFTSharding
import Torch

/// The third stage: an adapted model that is divided into the units in which its blocks are run.
///
/// Every trainable tensor belongs to exactly one decoder block or to what is around them, so that a block can be recomputed,
/// gathered or reduced as a whole. In one process each unit is held whole.
public final class ShardedModel {
    /// The network with its adapter.
    public let adapted: AdaptedModel
    /// How its blocks are run.
    public let execution: any BlockExecution
    /// The tensors that the optimizer will update, in a fixed order.
    public let trainableParameters: [Parameter]
    /// What this process's optimizer updates of them, piece by piece.
    package let own: [OwnParameter]
    /// How the model is divided over processes; nil in one process.
    package var shards: ModelShards? { adapted.base.shards }

    /// Divides a model.
    ///
    /// - Parameters:
    ///   - adapted: the model.
    ///   - execution: how its blocks are run.
    /// - Throws: ``Diagnosis`` with ``DiagnosisCode/tiedTwice`` if a trainable tensor has no place, or several.
    public init(
        _ adapted: AdaptedModel, execution: any BlockExecution = ResidentExecution()
    ) throws(Diagnosis) {
        self.adapted = adapted
        self.execution = execution
        trainableParameters = Self.ordered(adapted)
        own = trainableParameters.map { OwnParameter(whole: $0) }
        try Self.requireOnePlace(trainableParameters, adapted)
    }

    /// Divides a model over the processes that its base was read by.
    ///
    /// - Parameters:
    ///   - adapted: the model, the same in every process.
    ///   - interval: for each of so many blocks one is computed again in backward; nil for none.
    ///   - granule: pieces of a tensor begin at multiples of so many elements, as the optimizer's rule needs them.
    /// - Throws: as ``init(_:execution:)``; `TorchError` if memory does not suffice.
    package init(
        _ adapted: AdaptedModel, recomputingEvery interval: Int?, granule: Int = 1
    ) throws {
        self.adapted = adapted
        trainableParameters = Self.ordered(adapted)
        try Self.requireOnePlace(trainableParameters, adapted)
        var execution: any BlockExecution = ResidentExecution()
        if let shards = adapted.base.shards {
            try shards.divideTrainable(
                units: adapted.base.model.units, all: trainableParameters, granule: granule)
            own = shards.ownParameters
            execution = GatheredExecution(shards)
        } else {
            own = trainableParameters.map { OwnParameter(whole: $0) }
        }
        self.execution =
            interval.map { RecomputedExecution(execution, every: $0) } ?? execution
    }

    /// Refuses a trained adapter that computes what the base computes.
    ///
    /// - Parameters:
    ///   - folder: where it was written; it stays.
    ///   - numSteps: optimizer steps done.
    /// - Throws: ``Diagnosis`` with ``DiagnosisCode/adapterIsZero``; `CollectiveError` if another process is gone.
    package func requireChange(in folder: URL, numSteps: Int) throws {
        guard try numSteps > 0 && changesNothing() else { return }
        throw Diagnosis(
            .adapterIsZero, at: folder.path,
            """
            \(numSteps == 1 ? "after 1 step" : "after \(numSteps) steps") the adapter still changes \
            nothing, every B is zero: the learning rate was 0 in every step, as it is in the first one \
            of a warm-up, or too small for float32, or no gradient came
            """,
            remedy: """
                lower warmup_steps or raise max_steps and learning_rate; the folder and its \
                checkpoints are kept
                """)
    }

    private func changesNothing() throws -> Bool {
        guard let shards else { return try adapted.adapter.changesNothing() }
        let adapters = adapted.adapter.adapters.map(\.adapter)
        var changesNothing = true
        for adapter in adapters where changesNothing {
            let position = adapter.parameters.lazy.compactMap { shards.position(of: $0) }.first
            if let position { try shards.require(position) }
            changesNothing = try adapter.changesNothing()
        }
        return changesNothing
    }

    /// The trainable tensors with their layers and blocks, and the method that made them; in their order.
    package var subjects: [GradientReport.Subject] {
        let registry = adapted.base.registry
        var blocks: [String: String] = [:]
        for unit in adapted.base.model.units {
            for linear in unit.linears { blocks[linear.path] = unit.path }
            for parameter in unit.parameters { blocks[parameter.layerPath] = unit.path }
        }
        var subjects: [ObjectIdentifier: GradientReport.Subject] = [:]
        func note(_ parameters: [Parameter], of layer: String, _ part: (any AdapterPart)?) {
            for parameter in parameters where subjects[ObjectIdentifier(parameter)] == nil {
                subjects[ObjectIdentifier(parameter)] = GradientReport.Subject(
                    parameter, layer: layer, block: blocks[layer],
                    method: part.map { String(describing: type(of: $0)) })
            }
        }
        for parameter in registry.parameters {
            note(parameter.trained, of: parameter.layerPath, nil)
        }
        for embedding in registry.embeddings {
            note(embedding.trainableParameters, of: embedding.path, embedding.adapter)
        }
        for linear in registry.linears {
            note(linear.trainableParameters, of: linear.path, linear.adapter)
        }
        return trainableParameters.map {
            subjects[ObjectIdentifier($0)] ?? GradientReport.Subject($0)
        }
    }

    /// The trainable tensors unit by unit, those around the blocks first: the order in which they are divided, so that sums over
    /// all of them are the same in one process.
    private static func ordered(_ adapted: AdaptedModel) -> [Parameter] {
        let inBlocks = adapted.base.model.units.flatMap(\.trainableParameters)
        let known = Set(inBlocks.map { ObjectIdentifier($0) })
        return adapted.trainableParameters.filter { !known.contains(ObjectIdentifier($0)) }
            + inBlocks
    }

    /// Refuses a tensor that two units hold, and one that no layer holds; in `ordered` the first is there twice.
    private static func requireOnePlace(
        _ ordered: [Parameter], _ adapted: AdaptedModel
    ) throws(Diagnosis) {
        var places: [UnsafeRawPointer: String] = [:]
        for parameter in ordered {
            let earlier = places.updateValue(parameter.path, forKey: parameter.value.identity)
            guard let earlier else { continue }
            throw Diagnosis(
                .tiedTwice, at: parameter.path,
                "its tensor is trained under the name \(earlier), too, and would be updated twice",
                remedy: "attach one adapter to tied layers, or clone the tensor")
        }
        for parameter in adapted.adapter.parameters
        where parameter.isTrainable && places[parameter.value.identity] == nil {
            throw Diagnosis(
                .tiedTwice, at: parameter.path,
                "it is trainable, but no layer of the model holds it",
                remedy: "attach the adapter to the model that is trained: AdaptedModel(base, ...)")
        }
    }
}

extension Parameter {
    /// The path of the layer that it belongs to.
    fileprivate var layerPath: String {
        path.lastIndex(of: ".").map { String(path[..<$0]) } ?? path
    }
}
