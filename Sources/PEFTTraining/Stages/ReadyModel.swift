public import PEFTData
public import PEFTLayers
import PEFTModels
import Torch

/// The last stage before training: a model whose loss was shown to reach every trainable tensor.
///
/// Only ``init(checking:execution:sample:)`` makes one, and the optimizer takes its parameters from one: a model that
/// cannot learn does not get to step 0.
public final class ReadyModel {
    /// The network with its adapter.
    public let adapted: AdaptedModel
    /// How its blocks are run.
    public let execution: any BlockExecution
    /// The tensors that the optimizer updates.
    public let trainableParameters: [Parameter]
    /// The mean loss of the tokens that were used for the check.
    public let sampleLoss: Double

    /// Tokens of the sample that the check uses; connectivity does not depend on more.
    static let maxSampleTokens = 32

    /// Proves on real tokens that the loss depends on every trainable tensor and that all gradients are finite.
    ///
    /// Connectivity is what counts, not magnitude: the gradient of `lora_A` is rightly zero while B is.
    ///
    /// - Parameters:
    ///   - adapted: the model.
    ///   - execution: how its blocks will be run in training.
    ///   - sample: rows of the training data with at least one target.
    /// - Throws: ``TrainingError/noTrainableParameters``, ``TrainingError/unconnected(_:of:)``,
    ///   ``TrainingError/notFinite(_:)``.
    /// - Complexity: one small forward and backward pass.
    public init(
        checking adapted: AdaptedModel, execution: any BlockExecution, sample: TokenBatch
    ) throws {
        self.adapted = adapted
        self.execution = execution
        trainableParameters = adapted.trainableParameters
        guard !trainableParameters.isEmpty else { throw TrainingError.noTrainableParameters }
        sampleLoss = try Self.check(adapted, execution, trainableParameters, sample)
    }

    private static func check(
        _ adapted: AdaptedModel, _ execution: any BlockExecution, _ parameters: [Parameter],
        _ sample: TokenBatch
    ) throws -> Double {
        let context = ForwardContext(
            layout: SequenceLayout(segmentLengths: sample.segmentLengths))
        let loss = try adapted.base.model.losses(
            tokens: sample.tokens, targets: sample.targets, context: context, execution: execution)
        guard loss.sum.requiresGrad else {
            throw TrainingError.unconnected(parameters.map(\.path), of: parameters.count)
        }
        let gradients = try Autograd.gradients(
            of: [loss.sum], withRespectTo: parameters.map(\.value))
        var unconnected: [String] = []
        var notFinite: [String] = []
        for (parameter, gradient) in zip(parameters, gradients) {
            guard let gradient else {
                unconnected.append(parameter.path)
                continue
            }
            if try !gradient.allFinite() { notFinite.append(parameter.path) }
        }
        guard unconnected.isEmpty else {
            throw TrainingError.unconnected(unconnected, of: parameters.count)
        }
        let mean = try loss.sum.detach().item() / Double(max(1, sample.numTargetTokens))
        guard notFinite.isEmpty, mean.isFinite else { throw TrainingError.notFinite(notFinite) }
        return mean
    }
}
