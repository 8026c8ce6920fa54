import Foundation
import PEFT
import PEFTTraining
import TestSupport
import Testing
import TrainingTestSupport

@Suite struct PrecisionRulesTests {
    private typealias Combination = PrecisionRules.Combination

    /// A choice that is refused, with the text that says why.
    struct Refused: Sendable, CustomTestStringConvertible {
        let combination: PrecisionRules.Combination
        let message: String

        var testDescription: String { message }

        static let all: [Refused] = [
            Refused(
                combination: Combination(storage: .nf4, compute: .float16),
                message: """
                    PEFT-D001: dtype float16: gradients below 6e-8 become zero in it; give \
                    --loss-scaling dynamic, or --dtype bfloat16
                    """),
            Refused(
                combination: Combination(
                    storage: .nf4, compute: .float16, lossScaling: .fixed(0)),
                message: """
                    PEFT-D002: loss scaling 0.0: a scale is a finite number above 0; give \
                    --loss-scaling dynamic
                    """),
            Refused(
                combination: Combination(
                    storage: .dense, compute: .bfloat16, lossScaling: .dynamic),
                message: """
                    PEFT-D002: loss scaling with dtype bfloat16: its exponents reach as far as \
                    float32's, so scaling has no effect but rounding; give --loss-scaling none, or \
                    --dtype float16
                    """),
            Refused(
                combination: Combination(storage: .dense, compute: .float64),
                message: """
                    PEFT-D002: compute dtype float64: activations are not computed in this dtype; \
                    give --dtype bfloat16, or float32, or float16
                    """),
            Refused(
                combination: Combination(
                    storage: .dense, compute: .bfloat16, adapter: .bfloat16),
                message: """
                    PEFT-D002: adapter dtype bfloat16: updates of a few millionths round to nothing \
                    in it; keep adapters in float32, which needs no flag
                    """),
            Refused(
                combination: Combination(storage: .fp4, compute: .bfloat16, reduce: .bfloat16),
                message: """
                    PEFT-D002: reduce dtype bfloat16: sums of many losses or gradients overflow or \
                    lose terms in it; reduce in float32, which needs no flag
                    """),
        ]

        private typealias Combination = PrecisionRules.Combination
    }

    @Test(arguments: Refused.all)
    func whatIsNotInTheTableIsRefused(refused: Refused) {
        let error = #expect(throws: Diagnosis.self) {
            try PrecisionRules.validate(refused.combination)
        }
        #expect(error?.description == refused.message)
    }

    @Test(arguments: PrecisionRules.allowed)
    func whatIsInTheTableIsTaken(rule: PrecisionRules.Rule) throws {
        for storage in rule.storages {
            try PrecisionRules.validate(
                Combination(
                    storage: storage, compute: rule.compute,
                    lossScaling: rule.needsLossScaling ? .dynamic : .none))
        }
    }

    /// Every dtype that a run can be told has a line in the table.
    @Test(arguments: ComputeDType.allCases)
    func everyDTypeOfTheConfigurationHasARule(dtype: ComputeDType) {
        #expect(PrecisionRules.allowed.contains { $0.compute.name == dtype.rawValue })
    }

    @Test func documentHoldsTheTableOfTheCode() throws {
        let url = Checkout.root.appending(path: "docs/precision.md")
        var lines = try String(contentsOf: url, encoding: .utf8).components(separatedBy: "\n")
        let table = lines.filter { $0.hasPrefix("|") }.map { $0 + "\n" }.joined()
        if ProcessInfo.processInfo.environment["UPDATE_DOCS"] != nil,
            let first = lines.firstIndex(where: { $0.hasPrefix("|") })
        {
            lines.removeAll { $0.hasPrefix("|") }
            lines.insert(String(PrecisionRules.table.dropLast()), at: first)
            try lines.joined(separator: "\n").write(to: url, atomically: true, encoding: .utf8)
            return
        }
        #expect(
            table == PrecisionRules.table,
            """
            write the table anew: UPDATE_DOCS=1 swift test -c release --disable-xctest --filter \
            PrecisionRulesTests
            """)
    }

    // MARK: - Tensors

    private func parameter(_ path: String, _ dtype: DType) throws -> Parameter {
        try Parameter(path: path, value: .zeros([2], dtype: dtype), isTrainable: true)
    }

    @Test func modelThatFollowsTheRulesIsTaken() throws {
        try PrecisionRules.check(
            adapters: [parameter("a", .float32)], packed: [("w", .uint8)],
            activations: .bfloat16, compute: .bfloat16)
    }

    /// Widens what the layer computes, as an adapter in float32 without a cast back would.
    private final class WideningAdapter: LinearAdapter {
        let parameters: [Parameter] = []

        func apply(
            to input: Tensor, baseOutput: Tensor, weight: any LinearWeight, context: ForwardContext
        ) throws(TorchError) -> Tensor {
            try baseOutput.to(.float32)
        }

        func changesNothing() -> Bool { false }
    }

    private let sample = TokenBatch([
        TokenSequence(
            tokens: [3, 1, 4], isTarget: [Bool](repeating: true, count: 3), row: 0)
    ])

    private func adapted(
        _ compute: DType, widens suffix: String? = nil
    ) throws -> AdaptedModel {
        let base = try BaseModel(
            at: URL(filePath: TinyModel.tied),
            options: BaseModelOptions(
                quantization: QuantizationConfig(quantType: .nf4), computeDType: compute))
        if let suffix {
            for linear in base.registry.linears where linear.path.hasSuffix(suffix) {
                linear.attach(WideningAdapter())
            }
        }
        var config = LoRAConfig()
        config.targetModules = .names(["q_proj"])
        return try AdaptedModel(base, adapter: config, seed: 1)
    }

    @Test(arguments: PrecisionRules.allowed.map(\.compute))
    func modelsFollowTheRules(compute: DType) throws {
        try PrecisionRules.check(try adapted(compute), sample: sample)
    }

    @Test func modelWhoseLayerWidensIsRefused() throws {
        let model = try adapted(.bfloat16, widens: "layers.1.mlp.down_proj")
        let error = #expect(throws: Diagnosis.self) {
            try PrecisionRules.check(model, sample: sample)
        }
        #expect(error?.code == .dtypesDoNotFit)
        #expect(error?.place == "hidden states")
    }

    @Test func adapterThatIsNotFloat32IsNamed() throws {
        let adapters = [try parameter("a", .float32), try parameter("b", .float16)]
        let error = #expect(throws: Diagnosis.self) {
            try PrecisionRules.check(
                adapters: adapters, packed: [], activations: .float16, compute: .float16)
        }
        #expect(
            error?.description == """
                PEFT-D002: b: this trainable tensor is float16, not float32; make adapters in \
                float32
                """)
    }

    @Test func codesThatAreNotIntegersAreNamed() throws {
        let error = #expect(throws: Diagnosis.self) {
            try PrecisionRules.check(
                adapters: [], packed: [("v", .uint8), ("w", .bfloat16)], activations: .float32,
                compute: .float32)
        }
        #expect(
            error?.description == """
                PEFT-D002: w: its quantized codes are bfloat16, not integers; quantize the base \
                again, with --quantize nf4
                """)
    }

    @Test func activationsOfAnotherDTypeAreNamed() throws {
        let error = #expect(throws: Diagnosis.self) {
            try PrecisionRules.check(
                adapters: [], packed: [], activations: .float32, compute: .bfloat16)
        }
        #expect(
            error?.description == """
                PEFT-D002: hidden states: they are float32, but the compute dtype is bfloat16; give \
                --dtype float32, or read the base with it
                """)
    }
}
