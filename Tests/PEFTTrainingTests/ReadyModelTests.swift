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

    private func ready(
        _ model: AdaptedModel, _ execution: any BlockExecution = ResidentExecution()
    ) throws -> ReadyModel {
        try ReadyModel(checking: ShardedModel(model, execution: execution), sample: sample)
    }

    private func diagnosis(
        _ model: AdaptedModel, _ execution: any BlockExecution = ResidentExecution()
    ) throws -> Diagnosis {
        try #require(throws: Diagnosis.self) { try ready(model, execution) }
    }

    @Test(arguments: [false, true])
    func connectedModelIsReady(isRecomputed: Bool) throws {
        let execution: any BlockExecution =
            isRecomputed ? RecomputedExecution() : ResidentExecution()
        let ready = try ready(adapted(base()), execution)
        #expect(ready.trainableParameters.count == 2 * 2 * 7)
        #expect(ready.trainableParameters.allSatisfy { $0.value.grad == nil })
        #expect(ready.gradients.loss.isFinite)
        #expect(ready.gradients.entries.allSatisfy { $0.isConnected && $0.method == "LoRA" })
        #expect(ready.gradients.entries[0].layer == "model.layers.0.self_attn.q_proj")
        #expect(ready.gradients.entries[27].block == "model.layers.1")
    }

    @Test(arguments: [false, true])
    func tensorsThatABlockCutsOffAreNamed(isRecomputed: Bool) throws {
        let cut = DetachingExecution(cutting: "model.layers.0")
        let execution: any BlockExecution = isRecomputed ? RecomputedExecution(cut) : cut
        let model = try adapted(base(), targets: .names(["q_proj", "up_proj"]))
        let names = [
            "self_attn.q_proj.lora_A", "self_attn.q_proj.lora_B", "mlp.up_proj.lora_A",
            "mlp.up_proj.lora_B",
        ].map { "base_model.model.model.layers.0.\($0).weight" }
        let found = try diagnosis(model, execution)
        #expect(found.code == .detached)
        #expect(found.place == "model.layers.0")
        #expect(found.tensors == names)
        #expect(
            found.description == """
                PEFT-G002: model.layers.0: `detach` ends the path of gradients here; without gradient: \
                4 trainable tensors (\(names.joined(separator: ", "))); remove the detach(): what is \
                before it is to be trained
                """)
    }

    @Test func everythingIsCutOffByTheLastBlock() throws {
        let model = try adapted(base())
        let found = try diagnosis(model, DetachingExecution(cutting: "model.layers.1"))
        #expect(found.code == .detached)
        #expect(found.place == "model.layers.1")
        #expect(found.tensors == model.trainableParameters.map(\.path))
        #expect(found.description.contains("and 24 more"))
    }

    @Test func tensorThatAnAdapterForgetsIsNamed() throws {
        let base = try base()
        let linear = try #require(
            base.registry.linears.first { $0.path.hasSuffix("1.mlp.up_proj") })
        linear.attach(try ForgetfulAdapter(outFeatures: linear.weight.outFeatures))
        let found = try diagnosis(adapted(base, targets: .names(["q_proj"])))
        #expect(found.code == .adapterInactive)
        #expect(found.place == linear.path)
        #expect(found.tensors == ["forgotten"])
    }

    @Test func weightsThatAreNotNumbersAreRefused() throws {
        let workspace = try Workspace()
        let damaged = "model.layers.1.self_attn.v_proj.weight"
        let path = try TinyModel.write(to: workspace.url.appending(path: "model")) { name, tensor in
            name == damaged ? try tensor * Double.nan : tensor
        }
        let model = try adapted(base(path), targets: .names(["q_proj"]))
        let found = try diagnosis(model)
        #expect(found.code == .notFiniteAtStart)
        #expect(found.place == "`linear` in model.layers.1.self_attn.v_proj")
        #expect(found.reason.hasSuffix("; what it was given was not finite already"))
        #expect(!found.tensors.isEmpty)
    }

    @Test func rowsWithoutTargetsAreRefused() throws {
        let masked = TokenBatch([
            TokenSequence(tokens: [3, 1, 4], isTarget: [false, false, false], row: 0)
        ])
        let sharded = try ShardedModel(adapted(base()))
        let found = try #require(throws: Diagnosis.self) {
            try ReadyModel(checking: sharded, sample: masked)
        }
        #expect(found.code == .noTargets)
    }

    @Test func frozenTensorThatRequiresGradIsNamed() throws {
        let base = try base()
        try base.registry.frozenParameters[0].value.setRequiresGrad(true)
        let found = try diagnosis(adapted(base))
        #expect(found.code == .frozenGetsGradient)
        #expect(found.place == "model.embed_tokens.weight")
    }

    @Test func tensorOfTwoLayersIsRefused() throws {
        let base = try base()
        let shared = try ForgetfulAdapter(outFeatures: base.registry.linears[0].weight.outFeatures)
        base.registry.linears[0].attach(shared)
        base.registry.linears[3].attach(shared)
        let model = try adapted(base, targets: .names(["up_proj"]))
        let found = try #require(throws: Diagnosis.self) { try ShardedModel(model) }
        #expect(found.code == .tiedTwice)
        #expect(found.place == "shift")
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
                if case .preflight(let found) = $0 {
                    found.gradients?.numTensors == 28
                } else {
                    false
                }
            })
    }
}
