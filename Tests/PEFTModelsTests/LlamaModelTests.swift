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
    init(_ name: String, isQuantized: Bool = false) throws {
        let folder = Checkout.fixture("models/\(name)")
        let files = try BaseModelFiles.open(folder)
        let source: any ParameterSource =
            isQuantized
            ? try QuantizingSource(CastingSource(files.source, dtype: .bfloat16)) : files.source
        model = try ModelRegistry.makeModel(
            config: files.configuration, Scope(registry: registry, source: source))
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

@Suite struct LlamaModelTests {
    static let cases = ["tied", "grouped", "biased"]

    @Test(arguments: cases)
    func logitsEqualTransformers(name: String) throws {
        let model = try Case(name)
        for (index, sequence) in try model.sequences.enumerated() {
            let found = try model.logits([sequence])
            let expected = try model.tensor("logits.\(index)").floats()
            #expect(Tolerance.maxError(found, expected) <= Tolerance.logits, "sequence \(index)")
        }
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
            if headWeight == nil, path == "model.embed_tokens.weight" { continue }
            let expected = try model.tensor("grad.\(path)").floats()
            let found = try #require(leaf.grad, "\(path) has no gradient").floats()
            #expect(
                Tolerance.relativeError(found, expected) <= Tolerance.gradient, "\(path)")
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

@Suite struct ModelRegistryTests {
    private func build(_ json: String) throws {
        _ = try ModelRegistry.makeModel(
            config: Data(json.utf8), Scope(registry: ModuleRegistry(), source: ShapeSource()))
    }

    @Test func unknownFamilySaysWhichAreKnown() {
        let error = #expect(throws: ModelError.self) { try build(#"{"model_type": "mamba"}"#) }
        #expect(
            error?.description
                == #"config.json: model_type: found "mamba", but only llama can be built; "#
                + "choose a model of these families")
    }

    @Test(arguments: [
        (
            #""hidden_act": "gelu""#,
            #"config.json: hidden_act: expected "silu", found "gelu""#
        ),
        (
            #""num_attention_heads": 6, "num_key_value_heads": 4"#,
            "config.json: num_key_value_heads: expected a divisor of num_attention_heads, 6, found 4"
        ),
        (
            #""rope_scaling": {"rope_type": "yarn"}"#,
            #"config.json: rope_scaling.rope_type: expected "default": rotary scaling is not "#
                + #"supported in this version, found "yarn""#
        ),
        (
            #""hidden_size": "wide""#,
            "config.json: hiddenSize: expected Int, found another type"
        ),
    ])
    func valueThatDoesNotFitIsNamed(setting: String, message: String) {
        let error = #expect(throws: ModelError.self) {
            try build(#"{"model_type": "llama", \#(setting)}"#)
        }
        #expect(error?.description == message)
    }

    @Test func omittedKeysKeepTransformersDefaults() throws {
        let config = try LlamaConfig.read(Data(#"{"hidden_size": 64, "head_dim": null}"#.utf8))
        #expect(config.hiddenSize == 64)
        #expect(config.numHiddenLayers == 32)
        #expect(config.keyValueHeads == 32)
        #expect(config.headSize == 2)
        #expect(config.rotaryBase == 10_000)
    }

    @Test func parameterPathsAreHuggingFaces() throws {
        let source = ShapeSource()
        let config = #"{"model_type": "llama", "num_hidden_layers": 1, "vocab_size": 10}"#
        _ = try ModelRegistry.makeModel(
            config: Data(config.utf8), Scope(registry: ModuleRegistry(), source: source))
        let layer = "model.layers.0"
        #expect(
            Set(source.shapes.keys) == [
                "model.embed_tokens.weight", "model.norm.weight", "lm_head.weight",
                "\(layer).input_layernorm.weight", "\(layer).post_attention_layernorm.weight",
                "\(layer).self_attn.q_proj.weight", "\(layer).self_attn.k_proj.weight",
                "\(layer).self_attn.v_proj.weight", "\(layer).self_attn.o_proj.weight",
                "\(layer).mlp.gate_proj.weight", "\(layer).mlp.up_proj.weight",
                "\(layer).mlp.down_proj.weight",
            ])
        #expect(source.shapes["model.layers.0.mlp.down_proj.weight"] == [4096, 11_008])
    }
}
