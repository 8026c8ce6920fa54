import Foundation
import PEFTAdapters
import PEFTCheckpoints
import PEFTLayers
import PEFTModels
import TestSupport
import Testing
import Torch

/// Adapters that rows activate: equal to PEFT's, wherever in a row the invocation is.
@Suite struct ActivatedLoRATests {
    private static let numRows = 8
    /// The row without the invocation, and the one that ends before the whole of it.
    private static let inactive = [3, 4]

    /// The fixture's model with its adapter.
    private struct Adapted {
        let model: any CausalLanguageModel
        let registry = ModuleRegistry()
        let adapter: AdapterSet
        let expected: SafetensorsFile

        init() throws {
            let files = try BaseModelFiles.open(Checkout.fixture("models/grouped"))
            model = try ModelRegistry.makeModel(
                config: files.configuration, Scope(registry: registry, source: files.source))
            let url = Checkout.fixture("activated")
            let folder = try AdapterFolder.read(url)
            let config = try LoRAConfig(adapterConfigJSON: folder.configuration)
            adapter = try config.attach(to: registry, seed: 0)
            expected = try SafetensorsFile(url.appending(path: "expected.safetensors"))
            try adapter.load(
                folder.tensors(
                    expected: adapter.tensorShapes, ignoring: adapter.frozenCopies))
        }

        func tensor(_ name: String) throws -> Tensor {
            try expected.tensor(try #require(expected.entry(name), "\(name)"))
        }

        func row(_ index: Int) throws -> [Int32] {
            try tensor("tokens.\(index)").int64s().map { Int32($0) }
        }

        func logits(_ rows: [[Int32]], usesAdapters: Bool = true) throws -> [Float] {
            let tokens = rows.flatMap(\.self)
            let context = ForwardContext(
                layout: SequenceLayout(segmentLengths: rows.map(\.count)),
                usesAdapters: usesAdapters
            ).reading(tokens)
            return try withoutGrad {
                let hidden = try model.hiddenStates(
                    Tensor(tokens, shape: [tokens.count]).to(.int64), context: context,
                    execution: ResidentExecution())
                return try model.logits(hidden, context: context).floats()
            }
        }
    }

    @Test func theLastOccurrenceCounts() {
        let invocation = InvocationTokens([7, 3, 7])
        #expect(invocation.lastStart(in: [7, 3, 7, 3, 7, 1]) == 2)
        #expect(invocation.lastStart(in: [7, 3, 7]) == 0)
        #expect(invocation.lastStart(in: [1, 7, 3]) == nil)
        #expect(invocation.lastStart(in: []) == nil)
    }

    @Test func rowsOfOneBatchHaveTheLogitsOfPEFT() throws {
        let adapted = try Adapted()
        let rows = try (0..<Self.numRows).map { try adapted.row($0) }
        let expected = try (0..<Self.numRows).flatMap {
            try adapted.tensor("logits.\($0)").floats()
        }
        #expect(try Tolerance.maxError(adapted.logits(rows), expected) <= Tolerance.logits)
        for (index, row) in rows.enumerated() {
            let alone = try adapted.logits([row])
            let error = try Tolerance.maxError(alone, adapted.tensor("logits.\(index)").floats())
            #expect(error <= Tolerance.logits, "row \(index)")
            let plain = try adapted.logits([row], usesAdapters: false)
            #expect((alone == plain) == Self.inactive.contains(index), "row \(index)")
        }
    }

    /// All rows in one batch, half of them with each execution's own recomputation.
    @Test(arguments: [false, true])
    func lossesAndGradientsAreThoseOfPEFT(recomputes: Bool) throws {
        let adapted = try Adapted()
        let rows = try (0..<Self.numRows).map { try adapted.row($0) }
        let execution: any BlockExecution =
            recomputes ? RecomputedExecution() : ResidentExecution()
        let losses = try adapted.model.losses(
            tokens: rows.flatMap(\.self), targets: rows.flatMap { $0.dropFirst() + [-1] },
            context: ForwardContext(layout: SequenceLayout(segmentLengths: rows.map(\.count))),
            execution: execution)
        let wanted = try (0..<Self.numRows).reduce(Float(0)) {
            try $0 + adapted.tensor("loss.\($1)").floats()[0]
        }
        #expect(try abs(losses.sum.detach().floats()[0] - wanted) <= 1e-5 * wanted)
        try losses.sum.backward()
        for parameter in adapted.adapter.parameters {
            let gradient = try #require(parameter.value.grad, "\(parameter.path)")
            let error = try Tolerance.relativeError(
                gradient.floats(), adapted.tensor("grad." + parameter.path).floats())
            #expect(error <= Tolerance.gradient, "\(parameter.path)")
        }
    }

    /// PEFT: zero, not none.
    @Test func rowsWithoutInvocationGiveZeroGradients() throws {
        let adapted = try Adapted()
        let row = try adapted.row(3)
        let dropout = DropoutKey(seed: 1, step: 0, microBatch: 0)
        let losses = try adapted.model.losses(
            tokens: row, targets: row.dropFirst() + [-1],
            context: ForwardContext(
                layout: SequenceLayout(segmentLengths: [row.count]), dropout: dropout),
            execution: ResidentExecution())
        try losses.sum.backward()
        for parameter in adapted.adapter.parameters {
            let gradient = try #require(parameter.value.grad, "\(parameter.path)")
            #expect(try gradient.floats().allSatisfy { $0 == 0 })
        }
    }

    @Test(arguments: [true, false])
    func generationIsThatOfPEFT(usesCache: Bool) throws {
        let adapted = try Adapted()
        let generation = try TokenGeneration(adapted.model, usesCache: usesCache)
        for index in 0..<Self.numRows {
            let prompt = try adapted.row(index).map { Int($0) }
            let found = try generation.run(prompt: prompt, maxNewTokens: 12, stopTokens: [])
            let expected = try adapted.tensor("generated.\(index)").int64s().map { Int($0) }
            #expect(found.tokens == expected, "row \(index)")
        }
    }

    /// A later prompt may activate the adapter elsewhere: what was read before is then not what it would read.
    @Test func aLongerPromptIsReadAnew() throws {
        let adapted = try Adapted()
        let generation = try TokenGeneration(adapted.model)
        let seen = SeenTokens()
        let first = try adapted.row(0).map { Int($0) }
        _ = try generation.run(prompt: first, maxNewTokens: 3, stopTokens: [], seen: seen)
        let second = try first + adapted.row(1).map { Int($0) }
        let found = try generation.run(prompt: second, maxNewTokens: 8, stopTokens: [], seen: seen)
        let alone = try generation.run(prompt: second, maxNewTokens: 8, stopTokens: [])
        #expect(found.tokens == alone.tokens)
        #expect(seen.numReused == 0)
    }

    // MARK: - What is refused

    @Test func aPassWithoutTokensIsAnError() throws {
        let adapted = try Adapted()
        let ids = try Tensor([1, 2, 3] as [Int64], shape: [3])
        let error = #expect(throws: TorchError.self) {
            try adapted.model.hiddenStates(
                ids, context: ForwardContext(layout: SequenceLayout(segmentLengths: [3])),
                execution: ResidentExecution())
        }
        #expect(error?.description.contains("give the tokens by ForwardContext.reading") == true)
    }

    @Test func sharedPrefixesAreAnError() throws {
        let adapted = try Adapted()
        // Long enough for its beginning to be shared.
        let row = try adapted.row(1) + adapted.row(1)
        let rows = row + row
        #expect(throws: TorchError.self) {
            try adapted.model.losses(
                tokens: rows, targets: rows,
                context: ForwardContext(
                    layout: SequenceLayout(segmentLengths: [row.count, row.count]),
                    sharesPrefixes: true), execution: ResidentExecution())
        }
    }

    private func message(_ change: (inout LoRAConfig) -> Void) throws -> String {
        let files = try BaseModelFiles.open(Checkout.fixture("models/grouped"))
        let registry = ModuleRegistry()
        _ = try ModelRegistry.makeModel(
            config: files.configuration, Scope(registry: registry, source: files.source))
        var config = LoRAConfig(targetModules: ["q_proj"])
        config.aloraInvocationTokens = [7, 3]
        change(&config)
        let error = #expect(throws: AdapterError.self) { try config.attach(to: registry, seed: 0) }
        #expect(registry.trainableParameters.isEmpty, "something was attached")
        return error?.description ?? ""
    }

    @Test func whatItCannotBeCombinedWithIsRefused() throws {
        let key = "alora_invocation_tokens: "
        #expect(
            try message { $0.useDora = true }.contains(
                key + "cannot be combined with use_dora; set that to false"))
        #expect(
            try message { $0.loraBias = true }.contains(
                key + "cannot be combined with lora_bias; set that to false"))
        #expect(
            try message { $0.initLoraWeights = .pissa }.contains(
                key + "cannot be combined with init_lora_weights \"pissa\"; set that to true"))
        #expect(
            try message { $0.targetParameters = ["q_proj.weight"] }.contains(
                key + "cannot be combined with adapters of parameters"))
        for tokens in [[], [-1], [3, Int(Int32.max) + 1]] {
            #expect(
                try message { $0.aloraInvocationTokens = tokens }.contains(
                    key + "expected null or at least one token, each of 0 or above"))
        }
        #expect(
            try message { $0.targetModules = ["lm_head"] }.contains(
                key + "lm_head is the output head, which is run for some tokens of a row only"))
        #expect(
            try message { $0.targetModules = ["embed_tokens"] }.contains(
                key + "model.embed_tokens is an embedding, which has no activated LoRA"))
    }
}
