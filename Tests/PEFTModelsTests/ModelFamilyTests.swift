import Foundation
import PEFTCheckpoints
import PEFTLayers
import PEFTModels
import PEFTQuantization
import TestSupport
import Testing
import Torch

/// A tiny model of the fixtures with what transformers computed for it.
private struct Case {
    let model: any CausalLanguageModel
    let registry = ModuleRegistry()
    let expected: SafetensorsFile

    /// The model as its files have it, or in bfloat16 with linears in NF4, as `peft generate` has it.
    init(
        _ name: String, isQuantized: Bool = false,
        edit: (inout [String: Any]) throws -> Void = { _ in }
    ) throws {
        let folder = Checkout.fixture("models/\(name)")
        let files = try BaseModelFiles.open(folder)
        let source: any ParameterSource =
            isQuantized
            ? try QuantizingSource(CastingSource(files.source, dtype: .bfloat16)) : files.source
        let json = try JSONSerialization.jsonObject(with: files.configuration)
        var config = try #require(json as? [String: Any])
        try edit(&config)
        model = try ModelRegistry.makeModel(
            config: JSONSerialization.data(withJSONObject: config),
            Scope(registry: registry, source: source))
        try files.source.verifyAllConsumed()
        expected = try SafetensorsFile(folder.appending(path: "expected.safetensors"))
    }

    func tensor(_ name: String) throws -> Tensor {
        try expected.tensor(try #require(expected.entry(name)))
    }

    var sequences: [[Int64]] {
        get throws { try (0..<4).map { try tensor("tokens.\($0)").int64s() } }
    }

    func hiddenStates(
        _ sequences: [[Int64]], _ execution: any BlockExecution = ResidentExecution()
    ) throws -> Tensor {
        let tokens = sequences.flatMap { $0 }
        let context = ForwardContext(
            layout: SequenceLayout(segmentLengths: sequences.map(\.count)))
        return try model.hiddenStates(
            try Tensor(tokens, shape: [tokens.count]), context: context, execution: execution)
    }

    func logits(_ sequences: [[Int64]]) throws -> [Float] {
        let context = ForwardContext(
            layout: SequenceLayout(segmentLengths: sequences.map(\.count)))
        return try withoutGrad {
            try model.logits(try hiddenStates(sequences), context: context).floats()
        }
    }

    /// The names of everything that requires grad below.
    func requireGrad() throws -> [String: Tensor] {
        var leaves: [String: Tensor] = [:]
        for parameter in registry.parameters { leaves[parameter.path] = parameter.value }
        for linear in registry.linears {
            guard let weight = linear.weight as? DenseWeight else { continue }
            leaves[weight.parameter.path] = weight.parameter.value
        }
        for leaf in leaves.values { try leaf.setRequiresGrad(true) }
        return leaves
    }
}

@Suite struct ModelFamilyTests {
    /// The folders of the fixtures: each family in several shapes, each rotary scaling.
    static let cases = [
        "tied", "grouped", "biased", "llama-gelu", "rope-linear", "rope-dynamic", "rope-llama3",
        "rope-yarn", "rope-yarn-mscale", "rope-longrope", "mistral", "mistral-no-window",
        "ministral", "ministral-windows", "qwen2",
        "qwen2-window", "qwen3", "qwen3-biased", "smollm3", "smollm3-window", "granite", "olmo2",
        "olmo2-multi-head", "phi3", "phi3-longrope", "gemma2", "gemma2-no-caps", "gemma3",
        "gemma3-windows", "mixtral", "mixtral-window", "qwen3-moe", "qwen3-moe-fused",
        "qwen3-moe-even", "qwen3-moe-one", "olmoe", "olmoe-grouped", "gpt-neox",
        "gpt-neox-sequential", "gpt2", "gpt2-scaled",
    ]

    @Test func everyFixtureIsACase() throws {
        let folders = try FileManager.default.contentsOfDirectory(
            atPath: Checkout.fixture("models").path)
        #expect(Set(folders) == Set(Self.cases))
    }

    @Test func everyFamilyHasAFixture() throws {
        let families = try Self.cases.map { name in
            try ModelRegistry.familyName(
                Data(contentsOf: Checkout.fixture("models/\(name)/config.json")))
        }
        #expect(Set(families) == Set(ModelRegistry.modelTypes))
    }

    @Test(arguments: cases)
    func logitsEqualTransformers(name: String) throws {
        let model = try Case(name)
        for (index, sequence) in try model.sequences.enumerated() {
            let found = try model.logits([sequence])
            let expected = try model.tensor("logits.\(index)").floats()
            #expect(Tolerance.maxError(found, expected) <= Tolerance.logits, "sequence \(index)")
        }
    }

    /// What files of transformers 4 have in the place of keys of transformers 5.
    @Test(arguments: [
        "rope-linear", "rope-llama3", "rope-yarn", "phi3-longrope", "gemma3", "gpt-neox",
        "qwen2-window", "smollm3", "gemma2",
    ])
    func olderConfigurationsAreUnderstood(name: String) throws {
        let model = try Case(name) { config in
            if var rope = config.removeValue(forKey: "rope_parameters") as? [String: Any] {
                let local = rope.removeValue(forKey: "sliding_attention") as? [String: Any]
                rope = rope["full_attention"] as? [String: Any] ?? rope
                config["rope_local_base_freq"] = local?["rope_theta"]
                config["rope_theta"] = rope.removeValue(forKey: "rope_theta")
                config["rotary_emb_base"] = name == "gpt-neox" ? config["rope_theta"] : nil
                let share = rope.removeValue(forKey: "partial_rotary_factor")
                config[name == "gpt-neox" ? "rotary_pct" : "partial_rotary_factor"] = share
                let method = rope.removeValue(forKey: "rope_type")
                rope["type"] = name == "phi3-longrope" ? "su" : method
                config["rope_scaling"] = rope["type"] as? String == "default" ? NSNull() : rope
            }
            for key in ["layer_types", "no_rope_layers"] { config[key] = nil }
        }
        let sequence = try model.sequences[3]
        let expected = try model.tensor("logits.3").floats()
        #expect(Tolerance.maxError(try model.logits([sequence]), expected) <= Tolerance.logits)
    }

    @Test(arguments: cases)
    func packedSequencesDoNotSeeEachOther(name: String) throws {
        let model = try Case(name)
        let found = try model.logits(model.sequences)
        let expected = try (0..<4).flatMap { try model.tensor("logits.\($0)").floats() }
        #expect(Tolerance.maxError(found, expected) <= Tolerance.logits)
    }

    @Test(arguments: cases, [false, true])
    func gradientsEqualTransformers(name: String, isRecomputed: Bool) throws {
        let model = try Case(name)
        let leaves = try model.requireGrad()
        let head = model.model.head
        // The loss node differentiates the head only when it is told so; its gradient is checked by itself.
        let headWeight = (head.weight as? DenseWeight)?.parameter.value
        let execution: any BlockExecution =
            isRecomputed ? Recomputation(leaves: leaves) : ResidentExecution()
        let sequences = try model.sequences
        let targets = sequences.flatMap { sequence -> [Int32] in
            sequence.dropFirst().map { Int32($0) } + [-100]
        }
        let context = ForwardContext(
            layout: SequenceLayout(segmentLengths: sequences.map(\.count)))
        let losses = try CrossEntropy.losses(
            hiddenStates: try model.hiddenStates(sequences, execution), targets: targets,
            parameters: headWeight.map { [$0] } ?? []
        ) { slice throws(TorchError) in
            try model.model.logits(slice, context: context)
        }
        try losses.sum.backward()
        let loss = try losses.sum.detach().item()
        #expect(abs(loss - (try model.tensor("loss").item())) < 1e-3)
        for (path, leaf) in leaves {
            // Of a tied embedding the loss node has not seen the part of the head.
            if headWeight == nil, path == model.model.inputEmbedding.weight.path { continue }
            let expected = try model.tensor("grad.\(path)").floats()
            let found = try #require(leaf.grad, "\(path) has no gradient").floats()
            // Without positions a key's bias moves all scores of a query alike: the gradient is zero but for rounding.
            if path.hasSuffix("k_proj.bias"), expected.allSatisfy({ abs($0) < 1e-5 }) {
                #expect(found.allSatisfy { abs($0) < 1e-5 }, "\(path)")
                continue
            }
            #expect(
                Tolerance.relativeError(found, expected) <= Tolerance.gradient, "\(path)")
        }
    }

    /// Rows with common beginnings: a pair, a row that is another's beginning, two that begin as another's end goes, one of its own.
    @Test(arguments: cases, [false, true])
    func sharedPrefixesChangeNothing(name: String, isRecomputed: Bool) throws {
        let model = try Case(name)
        var leaves = try model.requireGrad()
        // The loss node takes a frozen head, with which an embedding may be tied.
        for path in [model.model.head.path + ".weight", model.model.inputEmbedding.weight.path] {
            try leaves.removeValue(forKey: path)?.setRequiresGrad(false)
        }
        func tokens(_ range: Range<Int>, _ factor: Int) -> [Int32] {
            range.map { Int32($0 * factor % 23) }
        }
        let prompt = tokens(0..<29, 7)
        let rows = [
            prompt + tokens(0..<9, 5), prompt + tokens(0..<20, 11), prompt,
            prompt + tokens(0..<19, 11) + [3], tokens(1..<27, 3), prompt + tokens(0..<9, 5),
        ]
        let targets = rows.flatMap { $0.dropFirst() + [-100] }
        let execution: any BlockExecution =
            isRecomputed ? Recomputation(leaves: leaves) : ResidentExecution()
        func differentiate(sharing: Bool) throws -> (losses: [Float], gradients: [String: Tensor]) {
            let context = ForwardContext(
                layout: SequenceLayout(segmentLengths: rows.map(\.count)), sharesPrefixes: sharing)
            let losses = try model.model.losses(
                tokens: rows.flatMap { $0 }, targets: targets, context: context,
                execution: execution)
            try losses.sum.backward()
            let gradients = try leaves.mapValues { leaf in
                defer { try? leaf.setGrad(nil) }
                return try #require(leaf.grad)
            }
            return (try losses.perTarget.floats(), gradients)
        }
        let isShared = rows.map(\.count).allSatisfy { model.model.canExtendCache(from: 29, to: $0) }
        #expect(isShared || name.hasPrefix("rope-dynamic") || name.hasSuffix("longrope"))
        let expected = try differentiate(sharing: false)
        let found = try differentiate(sharing: true)
        #expect(Tolerance.maxError(found.losses, expected.losses) <= Tolerance.logits)
        for (path, gradient) in expected.gradients {
            let (found, expected) = (
                try #require(found.gradients[path]).floats(), try gradient.floats()
            )
            if path.hasSuffix("k_proj.bias"), expected.allSatisfy({ abs($0) < 1e-5 }) {
                #expect(found.allSatisfy { abs($0) < 1e-5 }, "\(path)")
                continue
            }
            #expect(Tolerance.relativeError(found, expected) <= Tolerance.gradient, "\(path)")
        }
    }

    @Test(arguments: cases)
    func generationWithCacheEqualsGenerationWithout(name: String) throws {
        let model = try Case(name).model
        let prompt = [3, 1, 4, 1, 5]
        let cached = try TokenGeneration(model).run(
            prompt: prompt, maxNewTokens: 80, stopTokens: [])
        let uncached = try TokenGeneration(model, usesCache: false).run(
            prompt: prompt, maxNewTokens: 80, stopTokens: [])
        #expect(cached.tokens == uncached.tokens)
        #expect(cached.tokens.count == 80)
    }

    @Test(arguments: cases)
    func quantizedTokensWithCacheAreThoseOfTheWholeSequence(name: String) throws {
        let model = try Case(name, isQuantized: true).model
        // Else the whole sequence is run for each token, which the test of generation covers.
        guard model.canExtendCache(from: 20, to: 60) else { return }
        let tokens = try Tensor((0..<60).map { Int64($0 * 7 % 23) }, shape: [60])
        let cache = KeyValueCache()
        func hiddenStates(_ range: Range<Int>, _ cache: KeyValueCache?) throws -> Tensor {
            let context = ForwardContext(
                layout: SequenceLayout(
                    segmentLengths: [range.count], firstPosition: range.lowerBound),
                cache: cache)
            return try withoutGrad {
                try model.hiddenStates(
                    tokens.narrow(0, range.lowerBound, range.count), context: context,
                    execution: ResidentExecution())
            }
        }
        let parts = [0..<20] + (20..<60).map { $0..<$0 + 1 }
        let cached = try Tensor.concatenated(parts.map { try hiddenStates($0, cache) })
        let whole = try hiddenStates(0..<60, nil)
        #expect(
            Tolerance.relativeError(try cached.floats(), try whole.floats()) < Tolerance.bfloat16)
    }

    @Test func stopTokenEndsTheTextAndIsNotPartOfIt() throws {
        let model = try Case("tied").model
        let all = try TokenGeneration(model).run(prompt: [7], maxNewTokens: 20, stopTokens: [])
        let stop = all.tokens[5]
        let first = try #require(all.tokens.firstIndex(of: stop))
        let stopped = try TokenGeneration(model).run(
            prompt: [7], maxNewTokens: 20, stopTokens: [stop])
        #expect(stopped.tokens == Array(all.tokens[..<first]))
        #expect(stopped.isStopped)
        #expect(!all.isStopped)
    }

    @Test func samplingIsRepeatableAndTopPKeepsTheLikely() throws {
        let model = try Case("grouped").model
        func draw(seed: UInt64, topP: Double) throws -> [Int] {
            let generation = try TokenGeneration(
                model, sampling: Sampling(temperature: 1.5, topP: topP), seed: seed)
            return try generation.run(prompt: [2], maxNewTokens: 30, stopTokens: []).tokens
        }
        #expect(try draw(seed: 1, topP: 0.9) == draw(seed: 1, topP: 0.9))
        #expect(try draw(seed: 1, topP: 0.9) != draw(seed: 2, topP: 0.9))
        let greedy = try TokenGeneration(model).run(prompt: [2], maxNewTokens: 30, stopTokens: [])
        #expect(try draw(seed: 1, topP: 1e-6) == greedy.tokens)
    }
}

/// Recomputes blocks whose base tensors require grad, which only these tests let them.
private final class Recomputation: BlockExecution {
    private let leaves: [String: Tensor]

    init(leaves: [String: Tensor]) { self.leaves = leaves }

    func run(
        _ unit: ModuleUnit, _ hiddenStates: Tensor,
        _ body: @escaping (Tensor) throws(TorchError) -> Tensor
    ) throws(TorchError) -> Tensor {
        let parameters = leaves.filter { $0.key.hasPrefix(unit.path + ".") }.map(\.value)
        return try Autograd.recomputed(input: hiddenStates, parameters: parameters, body)
    }
}
