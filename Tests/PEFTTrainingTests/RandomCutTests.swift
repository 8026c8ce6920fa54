import Foundation
import PEFT
import PEFTTraining
import Testing
import TrainingTestSupport

/// How a path of gradients is cut.
private enum CutKind: CaseIterable {
    case detach
    case unrecorded
    case integers
    case forgottenGradient

    var code: DiagnosisCode {
        switch self {
        case .detach: .detached
        case .unrecorded: .noGradRegion
        case .integers: .notDifferentiable
        case .forgottenGradient: .noGradientReturned
        }
    }

    /// A value that is computed from another one, without its gradient.
    func apply(_ input: Tensor) throws(TorchError) -> Tensor {
        switch self {
        case .detach: try input.detach()
        case .unrecorded: try withoutGrad { () throws(TorchError) in try input * 1.5 }
        case .integers: try input.to(.int32).to(input.dtype)
        case .forgottenGradient:
            try Autograd.node("forgetful", inputs: [input]) {
                () throws(TorchError) -> (outputs: [Tensor], pullback: Pullback) in
                ([try input.detach() * 2], { _ in [nil] })
            }[0]
        }
    }
}

/// An adapter whose layer's output is cut off; it holds the adapter that it replaces.
private final class CuttingAdapter: LinearAdapter {
    private let kind: CutKind
    private let inner: LoRA
    var parameters: [Parameter] { inner.parameters }

    init(_ kind: CutKind, around inner: LoRA) {
        self.kind = kind
        self.inner = inner
    }

    func changesNothing() throws(TorchError) -> Bool { try inner.changesNothing() }

    func apply(
        to input: Tensor, baseOutput: Tensor, weight: any LinearWeight, context: ForwardContext
    ) throws(TorchError) -> Tensor {
        try kind.apply(
            inner.apply(to: input, baseOutput: baseOutput, weight: weight, context: context))
    }

}

/// Cuts the output of one block, outside of all its layers.
private final class CuttingExecution: BlockExecution {
    private let kind: CutKind
    private let path: String

    init(_ kind: CutKind, at path: String) {
        self.kind = kind
        self.path = path
    }

    func run(
        _ unit: ModuleUnit, _ hiddenStates: Tensor,
        _ body: @escaping (Tensor) throws(TorchError) -> Tensor
    ) throws(TorchError) -> Tensor {
        let output = try body(hiddenStates)
        return unit.path == path ? try kind.apply(output) : output
    }
}

/// A random model of a family with one random cut.
private struct CutModel {
    let sharded: ShardedModel
    let kind: CutKind
    let place: String
    /// The tensors that the cut keeps from their gradients, at least.
    let tensors: Set<String>

    /// Builds the case of a number.
    init(_ number: Int) throws {
        var random = SplitMix(UInt64(number))
        let model = random.pick([TinyModel.tied, TinyModel.grouped, TinyModel.biased])
        let base = try BaseModel(
            at: URL(filePath: model),
            options: BaseModelOptions(
                quantization: random.pick([nil, QuantizationConfig()]), computeDType: .float32))
        kind = random.pick(CutKind.allCases)
        let unit = random.pick(base.model.units)
        let isRecomputed = random.pick([false, true])
        var execution: any BlockExecution = ResidentExecution()
        if random.pick([false, true]) {
            place = unit.path
            execution = CuttingExecution(kind, at: unit.path)
            let upTo = base.model.units.prefix { $0.path != unit.path }.map(\.path) + [unit.path]
            tensors = Set(
                upTo.flatMap { ["\($0).self_attn.q_proj", "\($0).mlp.down_proj"] })
        } else {
            let linear = random.pick(unit.linears)
            place = linear.path
            tensors = [linear.path]
            let target = LoRATarget(path: linear.path, rank: 2, alpha: 4)
            let lora = try LoRA(
                target: target, inFeatures: linear.weight.inFeatures,
                outFeatures: linear.weight.outFeatures, seed: 3)
            linear.attach(CuttingAdapter(kind, around: lora))
        }
        var config = LoRAConfig()
        config.r = 2
        config.targetModules = .allLinear
        if let linear = base.registry.linears.first(where: { $0.adapter != nil }) {
            config.excludeModules = .regex(linear.path.replacing(".", with: "\\."))
        }
        if isRecomputed { execution = RecomputedExecution(execution) }
        sharded = try ShardedModel(
            AdaptedModel(base, adapter: config, seed: 1), execution: execution)
    }
}

/// A small random generator, the same on every machine.
private struct SplitMix {
    private var state: UInt64

    init(_ seed: UInt64) { state = StableHash.of(seed, "cut") }

    mutating func pick<Element>(_ elements: [Element]) -> Element {
        state = StableHash.of(state, "next")
        return elements[Int(state % UInt64(elements.count))]
    }
}

@Suite struct RandomCutTests {
    private let sample = TokenBatch([
        TokenSequence(
            tokens: [3, 1, 4, 1, 5, 9, 2, 6], isTarget: [Bool](repeating: true, count: 8), row: 0)
    ])

    /// Cuts of any kind, in any layer of any block, are found in that layer: 200 of 200.
    @Test func everyCutIsLocatedInItsLayer() throws {
        var numLocated = 0
        for number in 0..<200 {
            let cut = try CutModel(number)
            let found = try #require(throws: Diagnosis.self) {
                try ReadyModel(checking: cut.sharded, sample: sample)
            }
            let isLocated = found.code == cut.kind.code && found.place.hasPrefix(cut.place)
            let isComplete = cut.tensors.allSatisfy { layer in
                found.tensors.contains { $0.contains(layer + ".lora_A") }
            }
            #expect(
                isLocated && isComplete,
                "case \(number): \(cut.kind) in \(cut.place): found \(found)")
            numLocated += isLocated && isComplete ? 1 : 0
        }
        #expect(numLocated == 200)
    }
}
