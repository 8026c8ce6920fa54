import PEFTAdapters
public import PEFTLayers
import PEFTModels
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
        trainableParameters = adapted.trainableParameters
        try Self.requireOnePlace(adapted)
    }

    /// The trainable tensors with their layers and blocks, and the method that made them.
    package var subjects: [GradientReport.Subject] {
        let registry = adapted.base.registry
        var blocks: [String: String] = [:]
        for unit in adapted.base.model.units {
            for linear in unit.linears { blocks[linear.path] = unit.path }
        }
        let layers = registry.parameters.filter(\.isTrainable).map { GradientReport.Subject($0) }
        return layers
            + registry.linears.flatMap { linear in
                linear.trainableParameters.map { parameter in
                    GradientReport.Subject(
                        parameter, layer: linear.path, block: blocks[linear.path],
                        method: linear.adapter.map { String(describing: type(of: $0)) })
                }
            }
    }

    private static func requireOnePlace(_ adapted: AdaptedModel) throws(Diagnosis) {
        var places: [UnsafeRawPointer: String] = [:]
        for parameter in adapted.trainableParameters {
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
