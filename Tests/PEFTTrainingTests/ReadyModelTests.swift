import Foundation
import PEFT
import PEFTTraining
import TestSupport
import Testing
import TrainingTestSupport

/// Runs one block with its output cut off from the graph: all blocks before it lose their gradients too.
private final class DetachingExecution: BlockExecution {
    private let path: String

    init(cutting path: String) { self.path = path }

    func run(
        _ unit: ModuleUnit, _ hiddenStates: Tensor,
        _ body: @escaping (Tensor) throws(TorchError) -> Tensor
    ) throws(TorchError) -> Tensor {
        let output = try body(hiddenStates)
        return unit.path == path ? try output.detach() : output
    }
}

/// An adapter that uses its first tensor and forgets its second.
private final class ForgetfulAdapter: LinearAdapter {
    let parameters: [Parameter]

    init(outFeatures: Int) throws {
        parameters = try ["shift", "forgotten"].map {
            try Parameter(path: $0, value: .zeros([outFeatures]), isTrainable: true)
        }
    }

    func apply(
        to input: Tensor, baseOutput: Tensor, weight: any LinearWeight, context: ForwardContext
    ) throws(TorchError) -> Tensor {
        try baseOutput + parameters[0].value
    }

    func changesNothing() -> Bool { false }
}

@Suite struct ReadyModelTests {
    private let sample = TokenBatch([
        TokenSequence(
            tokens: [3, 1, 4, 1, 5], isTarget: [Bool](repeating: true, count: 5), row: 0)
    ])

    private func base(_ model: String = TinyModel.tied) throws -> BaseModel {
        try BaseModel(
            at: URL(filePath: model),
            options: BaseModelOptions(quantization: nil, computeDType: .float32))
    }

    private func adapted(
        _ base: BaseModel, targets: TargetModules = .allLinear
    ) throws -> AdaptedModel {
        var config = LoRAConfig()
        config.r = 2
        config.targetModules = targets
        return try AdaptedModel(base, adapter: config, seed: 1)
    }

    @Test(arguments: [false, true])
    func connectedModelIsReady(isRecomputed: Bool) throws {
        let execution: any BlockExecution =
            isRecomputed ? RecomputedExecution() : ResidentExecution()
        let ready = try ReadyModel(
            checking: adapted(base()), execution: execution, sample: sample)
        #expect(ready.trainableParameters.count == 2 * 2 * 7)
        #expect(ready.trainableParameters.allSatisfy { $0.value.grad == nil })
        #expect(ready.sampleLoss.isFinite)
    }

    @Test(arguments: [false, true])
    func tensorsThatABlockCutsOffAreNamed(isRecomputed: Bool) throws {
        let cut = DetachingExecution(cutting: "model.layers.0")
        let execution: any BlockExecution = isRecomputed ? RecomputedExecution(cut) : cut
        let model = try adapted(base(), targets: .names(["q_proj", "up_proj"]))
        let names = ["self_attn.q_proj.lora_A", "self_attn.q_proj.lora_B", "mlp.up_proj.lora_A"]
            .map { "base_model.model.model.layers.0.\($0).weight" }
        let last = "base_model.model.model.layers.0.mlp.up_proj.lora_B.weight"
        let error = #expect(throws: TrainingError.self) {
            try ReadyModel(checking: model, execution: execution, sample: sample)
        }
        #expect(error == .unconnected(names + [last], of: 8))
        #expect(
            error?.description == """
                4 of 8 trainable tensors are not connected to the loss, so they would learn nothing: \
                \((names + [last]).joined(separator: ", ")); was a layer detached, skipped or run \
                without grad?
                """)
    }

    @Test func everythingIsCutOffByTheLastBlock() throws {
        let model = try adapted(base())
        let error = #expect(throws: TrainingError.self) {
            try ReadyModel(
                checking: model, execution: DetachingExecution(cutting: "model.layers.1"),
                sample: sample)
        }
        #expect(error == .unconnected(model.trainableParameters.map(\.path), of: 28))
        #expect(error?.description.contains("and 20 more") == true)
    }

    @Test func tensorThatAnAdapterForgetsIsNamed() throws {
        let base = try base()
        let linear = try #require(
            base.registry.linears.first { $0.path.hasSuffix("1.mlp.up_proj") })
        linear.attach(try ForgetfulAdapter(outFeatures: linear.weight.outFeatures))
        let model = try adapted(base, targets: .names(["q_proj"]))
        let error = #expect(throws: TrainingError.self) {
            try ReadyModel(checking: model, execution: ResidentExecution(), sample: sample)
        }
        #expect(error == .unconnected(["forgotten"], of: 6))
    }

    @Test func weightsThatAreNotNumbersAreRefused() throws {
        let workspace = try Workspace()
        let damaged = "model.layers.1.self_attn.v_proj.weight"
        let path = try TinyModel.write(to: workspace.url.appending(path: "model")) { name, tensor in
            name == damaged ? try tensor * Double.nan : tensor
        }
        let model = try adapted(base(path), targets: .names(["q_proj"]))
        let error = #expect(throws: TrainingError.self) {
            try ReadyModel(checking: model, execution: ResidentExecution(), sample: sample)
        }
        guard case .notFinite(let names) = error else {
            Issue.record("found \(String(describing: error))")
            return
        }
        #expect(Set(names).isSubset(of: Set(model.trainableParameters.map(\.path))))
        #expect(!names.isEmpty)
    }

    /// The check looks at what is learned: the target may lie behind a long prompt.
    @Test func targetsFarBehindAreFound() throws {
        var run = try TinyRun(steps: 1)
        let prompt = String(repeating: "one two ", count: 40)
        run.config.model = try TinyModel.write(to: run.workspace.url.appending(path: "model"))
        run.config.data = try run.workspace.write(
            "{\"prompt\": \"\(prompt)\", \"completion\": \"three\"}\n", as: "pairs.jsonl")
        let events = try run.run()
        #expect(
            events.contains {
                if case .gradientCheck(let check) = $0 { check.numTensors == 28 } else { false }
            })
    }
}
