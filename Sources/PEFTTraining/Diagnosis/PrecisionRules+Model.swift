public import PEFTData
public import PEFTLayers
import PEFTModels
import Torch

extension PrecisionRules {
    /// Compares the tensors of a model, and the hidden states that it computes, with the rules.
    ///
    /// - Parameters:
    ///   - adapted: the model with its adapter.
    ///   - sample: a few tokens.
    ///   - execution: how its blocks are run.
    /// - Throws: ``Diagnosis`` of ``DiagnosisCode/dtypesDoNotFit`` naming the first tensor that breaks a rule; `TorchError` of
    ///   the model.
    /// - Complexity: one forward pass of the sample.
    public static func check(
        _ adapted: AdaptedModel, sample: TokenBatch,
        execution: any BlockExecution = ResidentExecution()
    ) throws {
        let base = adapted.base
        let packed = base.registry.linears.flatMap { linear in
            linear.weight.codes.map { (linear.path, $0.dtype) }
        }
        let hidden = try withoutGrad { () throws(TorchError) in
            try base.model.hiddenStates(
                Tensor(sample.tokens, shape: [sample.tokens.count]).to(.int64),
                context: ForwardContext(
                    layout: SequenceLayout(segmentLengths: sample.segmentLengths)
                ).reading(sample.tokens),
                execution: execution)
        }
        try check(
            adapters: adapted.trainableParameters, packed: packed, activations: hidden.dtype,
            compute: base.options.computeDType)
    }
}
