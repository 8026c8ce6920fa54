import PEFTAdapters
import PEFTLayers
import PEFTModels
import PEFTQuantization
import TestSupport
import Testing
import Torch

/// Training of a tiny model runs for long without keeping anything: no handle, no closure, no memory.
@Suite struct LeakTests {
    @Test func tenThousandStepsKeepNothing() throws {
        let training = try TinyTraining()
        // The first steps fill libtorch's caches and the allocator's free lists.
        for step in 0..<500 { try training.run(step) }
        let tensors = TorchRuntime.numLiveTensors
        let contexts = TorchRuntime.numLiveContexts
        let residentBytes = MemoryStatistics.current().residentBytes
        for step in 500..<10_500 { try training.run(step) }
        #expect(TorchRuntime.numLiveTensors == tensors)
        #expect(TorchRuntime.numLiveContexts == contexts)
        let growth = MemoryStatistics.current().residentBytes - residentBytes
        #expect(growth <= Tolerance.memoryGrowthBytes)
        let differentiated = (0..<10_500).filter { $0 % 7 != 3 }
        let numFailures = differentiated.count { $0 % 11 == 5 }
        #expect(training.numFailures == numFailures)
        #expect(training.numUpdates == differentiated.count - numFailures)
        #expect(training.numHookCalls == training.numUpdates)
        #expect(try training.isFinite())
    }
}

/// QLoRA of a Llama with one block; every kind of step that a run may take.
private final class TinyTraining {
    private(set) var numUpdates = 0
    private(set) var numFailures = 0
    private(set) var numHookCalls = 0

    private let model: DecoderModel
    private let adapters: AdapterSet
    private let faulty = FaultyExecution()
    private let tokens: [Int32] = [3, 1, 4, 1, 5, 9, 2, 6, 5]
    private let targets: [Int32] = [1, 4, 1, -100, 9, 2, 6, 5, -100]

    init() throws {
        var config = LlamaConfig()
        config.decoder.hiddenSize = 8
        config.decoder.intermediateSize = 12
        config.decoder.numHiddenLayers = 1
        config.decoder.numAttentionHeads = 2
        config.decoder.numKeyValueHeads = 1
        config.decoder.vocabSize = 11
        config.decoder.tieWordEmbeddings = true
        let registry = ModuleRegistry()
        let source = try QuantizingSource(RandomSource(seed: 1, standardDeviation: 0.3))
        model = try config.makeModel(Scope(registry: registry, source: source))
        var lora = LoRAConfig()
        lora.targetModules = .names(["q_proj", "v_proj", "down_proj"])
        lora.loraDropout = 0.1
        adapters = try lora.attach(to: registry, seed: 2)
    }

    /// Takes one step: most update; some drop the graph, fail in backward, evaluate or hook a gradient.
    func run(_ step: Int) throws {
        let inner: any BlockExecution = step % 11 == 5 ? faulty : ResidentExecution()
        let execution = step.isMultiple(of: 2) ? inner : RecomputedExecution(inner)
        if step % 13 == 6 {
            _ = try withoutGrad { try losses(nil, execution) }
        }
        let hooked = adapters.parameters[step % adapters.parameters.count].value
        let hook = try hooked.addGradientHook { [self] gradient throws(TorchError) in
            numHookCalls += 1
            return try gradient * 0.5
        }
        let sum = try losses(DropoutKey(seed: 3, step: step, microBatch: 0), execution).sum
        if step % 7 != 3 { try differentiate(sum) }
        try hooked.removeGradientHook(hook)
        try update()
    }

    private func differentiate(_ sum: Tensor) throws(TorchError) {
        do {
            try sum.backward()
            numUpdates += 1
        } catch {
            guard error.message.contains("faulty(): on purpose") else { throw error }
            numFailures += 1
        }
    }

    private func losses(
        _ dropout: DropoutKey?, _ execution: any BlockExecution
    ) throws(TorchError) -> TokenLosses {
        let layout = SequenceLayout(segmentLengths: [4, 5])
        return try model.losses(
            tokens: tokens, targets: targets,
            context: ForwardContext(layout: layout, dropout: dropout), execution: execution)
    }

    /// Gradient descent with what there is.
    private func update() throws(TorchError) {
        try withoutGrad { () throws(TorchError) in
            for parameter in adapters.parameters {
                guard let gradient = parameter.value.grad else { continue }
                try parameter.value.addInPlace(gradient, scaledBy: -0.001)
                try parameter.value.setGrad(nil)
            }
        }
    }

    func isFinite() throws -> Bool {
        try adapters.parameters.allSatisfy { try $0.value.allFinite() }
    }
}

/// Runs a block whose backward fails.
private final class FaultyExecution: BlockExecution {
    func run(
        _ unit: ModuleUnit, _ hiddenStates: Tensor,
        _ body: @escaping (Tensor) throws(TorchError) -> Tensor
    ) throws(TorchError) -> Tensor {
        let output = try body(hiddenStates)
        let outputs = try Autograd.node("faulty", inputs: [output]) {
            () throws(TorchError) -> (outputs: [Tensor], pullback: Pullback) in
            let pullback: Pullback = { _ throws(TorchError) in
                throw TorchError(operation: "faulty", message: "on purpose")
            }
            return ([try output.detach().clone()], pullback)
        }
        return outputs[0]
    }
}
