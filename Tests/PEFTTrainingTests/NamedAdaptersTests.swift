import Foundation
import PEFT
import PEFTTraining
import TestSupport
import Testing
import TrainingTestSupport

/// Several adapters in one model compute what PEFT computes with them, alone, together and row by row.
@Suite struct NamedAdaptersTests {
    private static let activeTogether = ["a+b", "d+a+c", "saved+b"]
    /// The adapters of the rows of `scripts/fixtures/several.py`.
    private static let rows = ["a", "__base__", "c", "c", "b"]

    private let expected: SafetensorsFile
    private let tokens: Tensor

    init() throws {
        expected = try SafetensorsFile(Checkout.fixture("several/expected.safetensors"))
        tokens = try expected.tensor(try #require(expected.entry("tokens")))
    }

    private var layout: SequenceLayout {
        SequenceLayout(
            segmentLengths: [Int](repeating: tokens.shape[1], count: tokens.shape[0]))
    }

    private func reference(_ name: String) throws -> Tensor {
        try expected.tensor(try #require(expected.entry(name), "\(name)"))
    }

    private static func folder(_ name: String) -> URL {
        Checkout.fixture(name.count == 1 ? "combine/\(name)" : "several/\(name)")
    }

    private static func makeModel(
        _ model: String = "grouped", quantization: QuantizationConfig? = nil,
        dtype: DType = .float32
    ) throws -> BaseModel {
        try BaseModel(
            at: Checkout.fixture("models/\(model)"),
            options: BaseModelOptions(quantization: quantization, computeDType: dtype))
    }

    private static func makeAdapters(
        _ base: BaseModel, _ names: [String] = ["a", "b", "c", "d", "saved", "dora"],
        isTrainable: Bool = false
    ) throws -> NamedAdapters {
        let adapters = try NamedAdapters(of: base)
        for name in names {
            try adapters.load(name, from: folder(name), for: base, isTrainable: isTrainable)
        }
        return adapters
    }

    private func logits(
        _ base: BaseModel, dropout: DropoutKey? = nil, usesAdapters: Bool = true
    ) throws -> [Float] {
        let context = ForwardContext(
            layout: layout, dropout: dropout, usesAdapters: usesAdapters)
        return try withoutGrad {
            // Some models know fewer tokens.
            let ids = try tokens.reshape([-1]).int64s().map {
                $0 % Int64(base.model.vocabularySize)
            }
            let hidden = try base.model.hiddenStates(
                Tensor(ids, shape: [ids.count]), context: context,
                execution: ResidentExecution())
            return try base.model.logits(hidden, context: context).floats()
        }
    }

    private func expectLogits(
        _ base: BaseModel, _ name: String, sourceLocation: SourceLocation = #_sourceLocation
    ) throws {
        let theirs = try reference(name).floats()
        #expect(
            Tolerance.maxError(try logits(base), theirs) < Tolerance.logits, "\(name)",
            sourceLocation: sourceLocation)
    }

    // MARK: - Against PEFT

    @Test func eachAloneIsThatOfPEFT() throws {
        let base = try Self.makeModel()
        let adapters = try Self.makeAdapters(base)
        #expect(adapters.names == ["a", "b", "c", "d", "saved", "dora"])
        #expect(adapters.active.isEmpty)
        try expectLogits(base, "logits.")
        for name in adapters.names {
            try adapters.activate(name)
            #expect(adapters.active == [name])
            try expectLogits(base, "logits.\(name)")
        }
        try adapters.activate([])
        try expectLogits(base, "logits.")
    }

    @Test(arguments: activeTogether)
    func severalAtOnceAreThoseOfPEFT(_ names: String) throws {
        let base = try Self.makeModel()
        let adapters = try Self.makeAdapters(base)
        try adapters.activate(names.split(separator: "+").map(String.init))
        try expectLogits(base, "logits.\(names)")
        #expect(
            try logits(base, usesAdapters: false) != reference("logits.\(names)").floats())
    }

    @Test func rowsWithAdaptersOfTheirOwnAreThoseOfPEFT() throws {
        let base = try Self.makeModel()
        let adapters = try Self.makeAdapters(base)
        try adapters.activate(Self.rows, forSegmentsOf: layout)
        try expectLogits(base, "mixed")
        // Another batch takes other names; then one adapter for all.
        try adapters.activate(
            [String](repeating: "dora", count: Self.rows.count), forSegmentsOf: layout)
        try expectLogits(base, "logits.dora")
        try adapters.activate("d")
        try expectLogits(base, "logits.d")
    }

    @Test func rowsOfDifferentLengthsComputeAsAlone() throws {
        let base = try Self.makeModel()
        let adapters = try Self.makeAdapters(base)
        let lengths = [3, 9, 1, 12, 10]
        func run(_ lengths: [Int], from start: Int) throws -> [Float] {
            let layout = SequenceLayout(segmentLengths: lengths)
            let context = ForwardContext(layout: layout)
            return try withoutGrad {
                let hidden = try base.model.hiddenStates(
                    tokens.reshape([-1]).narrow(0, start, layout.numTokens), context: context,
                    execution: ResidentExecution())
                return try base.model.logits(hidden, context: context).floats()
            }
        }
        try adapters.activate(
            Self.rows, forSegmentsOf: SequenceLayout(segmentLengths: lengths))
        let together = try run(lengths, from: 0)
        var alone: [Float] = []
        for (index, name) in Self.rows.enumerated() {
            try adapters.activate(name == NamedAdapters.baseName ? [] : [name])
            alone += try run([lengths[index]], from: lengths[..<index].reduce(0, +))
        }
        #expect(Tolerance.maxError(together, alone) < Tolerance.logits)
    }

    @Test func gradientsOfSummedAdaptersAreThoseOfPEFT() throws {
        let base = try Self.makeModel()
        let adapters = try Self.makeAdapters(base, ["a", "b", "d"], isTrainable: true)
        try adapters.activate(["a", "b"])
        let numTokens = tokens.shape[1]
        let ids = try tokens.reshape([-1]).int64s().map { Int32($0) }
        let targets = ids.indices.map { ($0 + 1) % numTokens == 0 ? -1 : ids[$0 + 1] }
        let losses = try base.model.losses(
            tokens: ids, targets: targets, context: ForwardContext(layout: layout),
            execution: ResidentExecution())
        let sum = try losses.sum.item()
        #expect(abs(sum - (try reference("loss").item())) < Tolerance.trainingLoss * sum)
        try losses.sum.backward()
        var numCompared = 0
        for name in ["a", "b"] {
            for parameter in try adapters.adapter(name).parameters {
                let theirs = try reference("grad.\(name).\(parameter.path)").floats()
                let ours = try #require(parameter.value.grad, "\(parameter.path)").floats()
                #expect(
                    Tolerance.relativeError(ours, theirs) < Tolerance.gradient,
                    "\(parameter.path)")
                numCompared += 1
            }
        }
        #expect(numCompared == 14)
        // Only what is active is trained.
        #expect(try adapters.adapter("d").parameters.allSatisfy { $0.value.grad == nil })
        #expect(base.registry.trainableParameters.count == numCompared)
        try adapters.activate("d")
        #expect(base.registry.trainableParameters.count == 6)
    }

    @Test func summedAdaptersDropOutEachForItself() throws {
        let base = try Self.makeModel()
        let adapters = try NamedAdapters(of: base)
        for (name, dropout) in [("a", 0.5), ("d", 0.25)] {
            let files = try AdapterFolder.read(Self.folder(name))
            var config = try LoRAConfig(adapterConfigJSON: files.configuration)
            config.loraDropout = dropout
            try adapters.add(
                name, config,
                tensors: files.weights.entries.reduce(into: [:]) {
                    $0[$1.name] = try files.weights.tensor($1)
                })
        }
        try adapters.activate(["a", "d"])
        let plain = try logits(base)
        let first = try logits(base, dropout: DropoutKey(seed: 1, step: 1, microBatch: 0))
        #expect(
            try first == logits(base, dropout: DropoutKey(seed: 1, step: 1, microBatch: 0)))
        #expect(
            try first != logits(base, dropout: DropoutKey(seed: 1, step: 2, microBatch: 0)))
        #expect(first != plain)
    }

    // MARK: - Other storages and models

    @Test(arguments: [DType.float32, .bfloat16])
    func oneActiveAdapterComputesAsIfItWereAttachedAlone(dtype: DType) throws {
        let quantization = QuantizationConfig(
            quantType: .nf4, blockSize: 64, usesDoubleQuantization: true)
        let base = try Self.makeModel(quantization: quantization, dtype: dtype)
        let adapters = try Self.makeAdapters(base)
        try adapters.activate("c")
        let alone = try Self.makeModel(quantization: quantization, dtype: dtype)
        _ = try AdaptedModel(alone, loading: Self.folder("c"), isTrainable: false)
        #expect(try logits(base) == logits(alone))
    }

    @Test func adaptersOfExpertsAreSummed() throws {
        let fixture = Checkout.fixture("experts/parameters")
        let base = try BaseModel(
            at: Checkout.fixture("models/qwen3-moe"),
            options: BaseModelOptions(quantization: nil, computeDType: .float32))
        let adapters = try NamedAdapters(of: base)
        for name in ["x", "y"] { try adapters.load(name, from: fixture, for: base) }
        try adapters.activate("x")
        let one = try logits(base)
        try adapters.activate(["x", "y"])
        let two = try logits(base)
        #expect(Tolerance.maxError(one, two) > 1e-3)
        // Twice the same is the same with twice the scaling.
        let files = try AdapterFolder.read(fixture)
        var config = try LoRAConfig(adapterConfigJSON: files.configuration)
        config.loraAlpha *= 2
        config.alphaPattern = config.alphaPattern.mapValues { $0 * 2 }
        try adapters.swap(
            "x", config,
            tensors: files.weights.entries.reduce(into: [:]) {
                $0[$1.name] = try files.weights.tensor($1)
            })
        try adapters.activate("x")
        #expect(Tolerance.maxError(two, try logits(base)) < Tolerance.logits)
        let error = #expect(throws: AdapterError.self) {
            try adapters.activate(
                ["x", "y", "x", "__base__", "y"], forSegmentsOf: layout)
        }
        #expect(error?.description.contains("is on a layer of several experts") == true)
        #expect(adapters.active == ["x"])
    }

    @Test func commandsAddTheUpdatesOfSeveralAdapters() throws {
        let workspace = try Workspace()
        var options = ScoreOptions()
        options.model = Checkout.fixture("models/grouped").path
        options.adapter = AdapterFolders(["d", "a", "c"].map { Self.folder($0).path })
        options.quantize = .none
        options.dtype = .float32
        let rows = try (0..<tokens.shape[0]).map { row in
            try tokens.select(0, row).int64s().map { Int($0) }
        }
        options.data = try workspace.write(rows: rows)
        options.logits = workspace.path("logits.safetensors")
        _ = try Score.run(options)
        let file = try SafetensorsFile(URL(filePath: workspace.path("logits.safetensors")))
        let ours = try rows.indices.flatMap { row in
            try file.tensor(#require(file.entry("logits.\(row)"))).floats()
        }
        #expect(
            Tolerance.maxError(ours, try reference("logits.d+a+c").floats()) < Tolerance.logits)
    }

    @Test func adaptersAreGivenAsFlagsOrInAFile() throws {
        let workspace = try Workspace()
        func read(_ arguments: [String]) throws -> [String] {
            try Invocation<ScoreOptions>.read(["--model", "m", "--data", "d"] + arguments)
                .options.adapter.paths
        }
        #expect(try read([]) == [])
        #expect(try read(["--adapter", "a"]) == ["a"])
        #expect(try read(["--adapter", "a", "--adapter", "b,c"]) == ["a", "b,c"])
        for (text, paths) in [("a", ["a"]), ("[a, b]", ["a", "b"]), ("null", [])] {
            let file = try workspace.write("adapter: \(text)\n", as: "options.yaml")
            #expect(try read(["--config", file]) == paths)
        }
        var options = ScoreOptions()
        for (folders, yaml) in [
            (AdapterFolders(), "adapter: null"), ("a", "adapter: a"),
            (AdapterFolders(["a", "b"]), "adapter: [a, b]"),
        ] {
            options.adapter = folders
            #expect(options.yaml.contains(yaml + "\n"))
        }
    }

    // MARK: - Swapping and removing

    @Test func aSwappedAdapterComputesAsTheNewOneWhateverItsRank() throws {
        let base = try Self.makeModel()
        let adapters = try Self.makeAdapters(base, ["a", "b"])
        try adapters.activate("a")
        // Of rank 5 and 2 with rsLoRA, then of rank 3 again.
        for name in ["c", "d", "a"] {
            try adapters.swap("a", from: Self.folder(name), for: base)
            #expect(adapters.active == ["a"])
            try expectLogits(base, "logits.\(name)")
        }
        try adapters.activate("b")
        try adapters.swap("a", from: Self.folder("d"), for: base)
        try expectLogits(base, "logits.b")
        let error = #expect(throws: AdapterError.self) {
            try adapters.swap("a", from: Self.folder("b"), for: base)
        }
        #expect(
            error?.description.hasPrefix(
                "adapter \"a\": expected the tensors that it has, missing: "
                    + "base_model.model.model.layers.0.mlp.down_proj.lora_A.weight, ") == true)
        #expect(
            error?.description.hasSuffix("; add it under a name of its own instead") == true)
        try adapters.activate("a")
        try expectLogits(base, "logits.d")
    }

    @Test func aRemovedAdapterIsGone() throws {
        let base = try Self.makeModel()
        let adapters = try Self.makeAdapters(base, ["a", "b"])
        try adapters.activate(["a", "b"])
        try adapters.remove("a")
        #expect(adapters.active == ["b"])
        try expectLogits(base, "logits.b")
        try adapters.remove("b")
        #expect(adapters.names.isEmpty)
        try expectLogits(base, "logits.")
        #expect(throws: AdapterError.named(.unknown("a", known: []))) {
            try adapters.remove("a")
        }
    }

    // MARK: - Errors

    private func message(_ body: () throws -> Void) -> String? {
        (#expect(throws: AdapterError.self) { try body() })?.description
    }

    @Test func whatCannotBeActiveIsRefusedAndNothingChanges() throws {
        let base = try Self.makeModel()
        let adapters = try Self.makeAdapters(base)
        try adapters.activate("a")
        #expect(
            message { try adapters.activate(["b", "e"]) }
                == "adapter \"e\": the model has none of this name, it has: a, b, c, d, saved, dora"
        )
        #expect(
            message { try adapters.activate(["b", "b"]) }
                == "adapter \"b\": expected each name once, found it twice")
        #expect(
            message { try adapters.activate(["dora", "b"]) } == """
                model.layers.0.self_attn.q_proj: adapter "dora" (DoRA) is more than a low-rank update, so it \
                cannot be active together with others on one layer; activate it alone
                """)
        #expect(
            message {
                try adapters.activate(
                    ["saved", "a", "a", "a", "a"], forSegmentsOf: layout)
            } == """
                model.layers.0.input_layernorm.weight: of adapters that have this tensor as a whole ("saved") only one can be active, \
                and for all rows; activate one of them alone
                """)
        #expect(
            message { try adapters.activate(["a"], forSegmentsOf: layout) }
                == "expected the name of an adapter for each of 5 rows, found 1")
        #expect(
            message { try adapters.load("b", from: Self.folder("b"), for: base) }
                == "adapter \"b\": the model has one of this name; remove it first, or take another name"
        )
        #expect(
            message { try adapters.load("__base__", from: Self.folder("b"), for: base) }
                == "adapter \"__base__\": the name stands for the base model; take another")
        try adapters.load("again", from: Self.folder("saved"), for: base)
        #expect(
            message { try adapters.activate(["saved", "again"]) }?.contains(
                "of adapters that have this tensor as a whole (\"saved\", \"again\")") == true)
        var start = LoRAConfig(targetModules: ["q_proj"])
        start.initLoraWeights = .pissa
        #expect(
            message { try adapters.add("start", start) } == """
                adapter "start": its start, init_lora_weights pissa, is taken from the weights of the base, which \
                the other adapters need as they are; load it alone, or write it as a plain LoRA: peft export \
                --format peft-lora
                """)
        let other = LoRAConfig(targetModules: ["no_such_layer"])
        #expect(throws: AdapterError.self) { try adapters.add("other", other) }
        #expect(adapters.names.count == 7)
        try expectLogits(base, "logits.a")
    }

    @Test func anAdapterWithoutNameIsRefused() throws {
        let base = try Self.makeModel()
        _ = try AdaptedModel(base, loading: Self.folder("a"), isTrainable: false)
        #expect(
            message { _ = try NamedAdapters(of: base) } == """
                model.layers.0.self_attn.q_proj: an adapter is attached that has no name; attach all adapters of \
                the model by name
                """)
    }

    @Test func aPassOfOtherRowsIsRefused() throws {
        let base = try Self.makeModel()
        let adapters = try Self.makeAdapters(base, ["a"])
        try adapters.activate(
            ["a", "__base__"], forSegmentsOf: SequenceLayout(segmentLengths: [3, 4]))
        let error = #expect(throws: TorchError.self) { _ = try logits(base) }
        #expect(
            error?.description == """
                model.layers.0.self_attn.q_proj(): expected the 7 tokens of the rows that adapters were \
                activated for, found 35; activate adapters for each batch anew, and take logits of all tokens
                """)
    }
}
