import Foundation
import PEFTCheckpoints
import PEFTLayers
import PEFTModels
import TestSupport
import Testing
import Torch

@Suite struct CausalLanguageModelTests {
    private func makeModel(_ name: String, _ dtype: DType) throws -> any CausalLanguageModel {
        let files = try BaseModelFiles.open(Checkout.fixture("models/\(name)"))
        return try ModelRegistry.makeModel(
            config: files.configuration,
            Scope(
                registry: ModuleRegistry(), source: CastingSource(files.source, dtype: dtype)))
    }

    /// The losses of some tokens, and the operations that were done as the head's.
    private func losses(
        _ model: any CausalLanguageModel, usesAdapters: Bool = true
    ) throws -> (perTarget: Tensor, headOperations: [String]) {
        let tokens = (0..<40).map { Int32($0 * 7 % model.vocabularySize) }
        let context = ForwardContext(
            layout: SequenceLayout(segmentLengths: [40]), usesAdapters: usesAdapters)
        var operations: [String] = []
        let note = { (event: TraceEvent) in
            if event.layer == model.head.path { operations.append(event.name) }
        }
        let losses = try Trace.run(onEvent: note) {
            try model.losses(
                tokens: tokens, targets: tokens.dropFirst() + [-1], context: context,
                execution: ResidentExecution())
        }
        return (losses.perTarget, operations)
    }

    @Test(
        .enabled(
            if: InstructionSet.best != .portable, "the processor has no fused products"),
        arguments: ["tied", "grouped"])
    func bfloat16LossesAreMadeWithoutLogits(name: String) throws {
        let found = try losses(makeModel(name, .bfloat16))
        #expect(found.headOperations.contains("cross_entropy"))
        #expect(!found.headOperations.contains("linear"))
        let expected = try losses(makeModel(name, .float32))
        #expect(expected.headOperations.contains("linear"))
        let error = try Tolerance.relativeError(
            found.perTarget.floats(), expected.perTarget.floats())
        #expect(error <= Tolerance.bfloat16)
    }

    @Test(arguments: [true, false])
    func adapterOfTheHeadIsPartOfTheLoss(usesAdapters: Bool) throws {
        let model = try makeModel("grouped", .bfloat16)
        let plain = try losses(model).perTarget
        model.head.attach(try LogitOffset())
        let found = try losses(model, usesAdapters: usesAdapters)
        #expect(try found.perTarget.isEqual(to: plain) == !usesAdapters)
        #expect(!usesAdapters || found.headOperations.contains("linear"))
    }
}

/// Adds one to the first logit.
private final class LogitOffset: LinearAdapter {
    let parameters: [Parameter]

    init() throws {
        let value = try Tensor([Float(1)], shape: [1])
        parameters = [try Parameter(path: "offset", value: value, isTrainable: false)]
    }

    func apply(
        to input: Tensor, baseOutput: Tensor, weight: any LinearWeight, context: ForwardContext
    ) throws(TorchError) -> Tensor {
        let output = try baseOutput.clone()
        try output.narrow(1, 0, 1).addInPlace(parameters[0].value.to(output.dtype))
        return output
    }

    func changesNothing() throws(TorchError) -> Bool { false }
}
