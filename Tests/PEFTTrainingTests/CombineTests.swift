import Foundation
import PEFT
import PEFTTraining
import TestSupport
import Testing
import TrainingTestSupport

/// Adapters that are combined equal what PEFT's `add_weighted_adapter` makes of them.
@Suite struct CombineTests {
    /// A case of `scripts/fixtures/combine.py`.
    struct Case: Decodable, CustomTestStringConvertible {
        struct Options: Decodable {
            var combinationType: CombinationType
            var density: Double?
            var majoritySignMethod: MajoritySignMethod?
            var svdRank: Int?
            var svdClamp: Double?
        }

        let name: String
        let adapters: [String]
        let weights: [Double]
        let options: Options

        var testDescription: String { name }

        var combination: AdapterCombination {
            AdapterCombination(
                type: options.combinationType, density: options.density,
                majoritySignMethod: options.majoritySignMethod ?? .total,
                svdRank: options.svdRank, svdClamp: options.svdClamp)
        }
    }

    static let cases: [Case] = {
        let decoder = JSONDecoder()
        decoder.keyDecodingStrategy = .convertFromSnakeCase
        // A missing or unreadable file leaves no cases, which `everyTypeHasACase` reports.
        guard let data = try? Data(contentsOf: Checkout.fixture("combine/cases.json")),
            let cases = try? decoder.decode([Case].self, from: data)
        else { return [] }
        return cases
    }()

    private let workspace: Workspace

    init() throws {
        workspace = try Workspace()
    }

    private static func tensors(_ url: URL) throws -> [String: Tensor] {
        try tensors(SafetensorsFile(url))
    }

    private static func tensors(_ file: SafetensorsFile) throws -> [String: Tensor] {
        try file.entries.reduce(into: [:]) { $0[$1.name] = try file.tensor($1).clone() }
    }

    private static func adapter(
        _ name: String, weight: Double = 1, _ change: (inout LoRAConfig) -> Void = { _ in }
    ) throws -> WeightedAdapter {
        let folder = try AdapterFolder.read(Checkout.fixture("combine/\(name)"))
        var config = try LoRAConfig(adapterConfigJSON: folder.configuration)
        change(&config)
        return WeightedAdapter(
            name: name, config: config, tensors: try tensors(folder.weights), weight: weight)
    }

    private func options(
        _ adapters: [(String, Double)], _ change: (inout CombineOptions) -> Void = { _ in }
    ) -> CombineOptions {
        var options = CombineOptions()
        options.adapter = WeightedPaths(
            adapters.map { name, weight in
                let path = name.contains("/") ? name : Checkout.fixture("combine/\(name)").path
                return .init(path: path, weight: weight)
            })
        options.output = workspace.path("combined")
        options.threads = 1
        change(&options)
        return options
    }

    // MARK: - Against PEFT

    @Test func everyTypeHasACase() {
        #expect(
            Set(Self.cases.map(\.options.combinationType)) == Set(CombinationType.allCases))
    }

    @Test(arguments: cases)
    func tensorsAreThoseOfPEFT(_ example: Case) throws {
        let expected = try Self.tensors(Checkout.fixture("combine/\(example.name).safetensors"))
        var numDrawn = 0
        let combined = try example.combination.run(
            zip(example.adapters, example.weights).map { try Self.adapter($0, weight: $1) }
        ) { shape, density throws(TorchError) in
            #expect(density == example.options.density)
            defer { numDrawn += 1 }
            guard let mask = expected["mask.\(numDrawn)"], mask.shape == shape else {
                Issue.record("PEFT drew no mask \(numDrawn) of shape \(shape)")
                return try .zeros(shape)
            }
            return try mask.to(.float32)
        }
        let names = expected.keys.filter { !$0.hasPrefix("mask.") }
        #expect(combined.tensors.keys.sorted() == names.sorted())
        #expect(numDrawn == expected.count - names.count)
        for name in names where name.contains("lora_A") || name.contains("embedding_A") {
            let nameB = name.replacing("lora_A", with: "lora_B")
                .replacing("embedding_A", with: "embedding_B")
            let (ours, theirs) = (combined.tensors, expected)
            let (ourA, ourB) = (try #require(ours[name]), try #require(ours[nameB]))
            let (theirA, theirB) = (try #require(theirs[name]), try #require(theirs[nameB]))
            #expect(ourA.shape == theirA.shape && ourB.shape == theirB.shape, "\(name)")
            guard example.options.combinationType.splitsProducts else {
                #expect(try ourA.isEqual(to: theirA) && ourB.isEqual(to: theirB), "\(name)")
                continue
            }
            #expect(
                Tolerance.relativeError(
                    try ourB.matmul(ourA).floats(), try theirB.matmul(theirA).floats())
                    < Tolerance.splitProduct, "\(name)")
        }
    }

    @Test(arguments: cases)
    func configurationIsThatOfPEFT(_ example: Case) throws {
        let combined = try example.combination.run(
            zip(example.adapters, example.weights).map { try Self.adapter($0, weight: $1) })
        let data = try Data(contentsOf: Checkout.fixture("combine/\(example.name).json"))
        let expected = try LoRAConfig(adapterConfigJSON: data)
        #expect(combined.config.adapterConfigJSON() == expected.adapterConfigJSON())
    }

    // MARK: - What has no reference

    @Test func darePrunesWithItsDensityAndKeepsTheSum() throws {
        let adapters = [try Self.adapter("a"), try Self.adapter("d")]
        let plain = try AdapterCombination(type: .linear).run(adapters)
        func run(_ seed: UInt64) throws -> CombinedAdapter {
            try AdapterCombination(type: .dareLinear, density: 0.5, seed: seed).run(adapters)
        }
        #expect(
            try run(3).tensors.allSatisfy { name, tensor in
                try tensor.isEqual(to: #require(try run(3).tensors[name]))
            })
        var (numZeros, numElements) = (0, 0)
        var mean: [String: [Float]] = [:]
        let numSeeds = 200
        for seed in 0..<numSeeds {
            for (name, tensor) in try run(UInt64(seed)).tensors {
                let values = try tensor.floats()
                numElements += values.count
                numZeros += values.count { $0 == 0 }
                mean[name] = zip(mean[name] ?? values.map { _ in 0 }, values).map {
                    $0 + $1 / Float(numSeeds)
                }
            }
        }
        // Of two adapters both are pruned in a quarter of the elements; the bounds are seven standard deviations.
        let share = Double(numZeros) / Double(numElements)
        let deviation = (0.25 * 0.75 / Double(numElements)).squareRoot()
        #expect(abs(share - 0.25) < 7 * deviation, "\(share)")
        for (name, tensor) in plain.tensors {
            #expect(
                Tolerance.relativeError(mean[name] ?? [], try tensor.floats())
                    < 2 / Double(numSeeds).squareRoot(), "\(name)")
        }
    }

    /// B A of a layer.
    private static func product(_ tensors: [String: Tensor], _ path: String) throws -> Tensor {
        let name = "base_model.model.\(path)"
        return try #require(tensors["\(name).lora_B.weight"]).matmul(
            #require(tensors["\(name).lora_A.weight"]))
    }

    @Test func aRankThatTheLayersDoNotHaveIsFilledWithZeros() throws {
        let adapters = [try Self.adapter("a", weight: 0.5), try Self.adapter("b", weight: -2)]
        let exact = try AdapterCombination(type: .cat).run(adapters)
        // By way of the thin matrices, and by way of the product: a clamp at the largest element.
        for clamp in [nil, 1.0] {
            let filled = try AdapterCombination(type: .svd, svdRank: 70, svdClamp: clamp)
                .run(adapters)
            for path in filled.paths where path.contains("q_proj") {
                let a = try #require(
                    filled.tensors["base_model.model.\(path).lora_A.weight"])
                #expect(a.shape == [70, 30])
                #expect(try a.narrow(0, 30, 40).isEqual(to: .zeros([40, 30])))
                guard clamp == nil else { continue }
                #expect(
                    Tolerance.relativeError(
                        try Self.product(filled.tensors, path).floats(),
                        try Self.product(exact.tensors, path).floats()) < Tolerance.splitProduct)
            }
        }
    }

    @Test func scalingIsOneWithRankStabilizedAdapters() throws {
        let adapter = try Self.adapter("c", weight: 2)
        let other = try Self.adapter("c", weight: -1)
        let path = "model.layers.1.mlp.down_proj"
        let expected = try Self.product(adapter.tensors, path) * (3 / 5.0.squareRoot())
        for type in [CombinationType.cat, .svd] {
            let combined = try AdapterCombination(type: type).run([adapter, other])
            #expect(!combined.config.useRslora)
            #expect(combined.config.loraAlpha == Double(combined.config.r))
            #expect(
                Tolerance.relativeError(
                    try Self.product(combined.tensors, path).floats(), try expected.floats())
                    < Tolerance.splitProduct)
        }
    }

    @Test func unlikeSelectionsAreWrittenAsPaths() throws {
        let first = try Self.adapter("a") { $0.targetModules = .regex(".*(q|down)_proj") }
        let combined = try AdapterCombination(type: .cat).run([first, Self.adapter("b")])
        #expect(combined.config.targetModules == .names(combined.paths))
        #expect(combined.paths.contains("model.layers.1.mlp.down_proj"))
        #expect(combined.paths.contains("model.embed_tokens"))
    }

    // MARK: - The command

    @Test func theFolderLoadsAndComputesTheSum() throws {
        let report = try Combine.run(
            options([("a", 0.7), ("b", -0.4)]) { $0.type = .cat })
        #expect(report.rank == 6)
        #expect(report.numLayers == 6)
        let model = Checkout.fixture("models/grouped").path
        func logits(_ adapter: String?) throws -> [Float] {
            var score = ScoreOptions()
            score.base.model = model
            score.base.adapter = AdapterFolders([adapter].compactMap(\.self))
            score.base.quantize = .none
            score.base.dtype = .float32
            score.base.threads = 1
            score.data = try workspace.write(rows: [[3, 9, 27, 5, 1]])
            score.logits = workspace.path("logits.safetensors")
            _ = try Score.run(score)
            return try Self.tensors(URL(filePath: workspace.path("logits.safetensors")))[
                "logits.0"]?
                .floats() ?? []
        }
        let both = try logits(report.output)
        #expect(Tolerance.maxError(both, try logits(nil)) > 0.01)
        // PEFT's combined adapter, as a folder.
        let theirs = workspace.url.appending(path: "theirs")
        try AdapterFolder.write(
            configuration: Data(contentsOf: Checkout.fixture("combine/linear.json")),
            tensors: Self.tensors(Checkout.fixture("combine/linear.safetensors")), to: theirs)
        _ = try Combine.run(
            options([("a", 0.7), ("b", -0.4)]) {
                $0.type = .linear
                $0.output = workspace.path("linear")
            })
        #expect(
            Tolerance.maxError(try logits(workspace.path("linear")), try logits(theirs.path)) == 0)
    }

    // MARK: - Errors

    private func message(
        _ adapters: [WeightedAdapter], _ combination: AdapterCombination
    ) throws -> String? {
        (#expect(throws: CombinationError.self) { try combination.run(adapters) })?.description
    }

    @Test func whatDoesNotGoTogetherIsRefused() throws {
        let a = try Self.adapter("a")
        #expect(
            try message([a, Self.adapter("c")], AdapterCombination(type: .linear)) == """
                type linear: expected one rank for all layers of all adapters, found 3 in a, 2 and 5 in c; \
                take --type cat or svd, which combine different ranks
                """)
        #expect(
            try message([a], AdapterCombination(type: .svd))
                == "type svd: expected two adapters or more, found one; one can be scaled, with --type linear"
        )
        #expect(
            try message([], AdapterCombination())
                == "no adapter to combine: give --adapter FOLDER:WEIGHT, once for each")
        #expect(
            try message([a, Self.adapter("d") { $0.useDora = true }], AdapterCombination()) == """
                d: adapters with use_dora cannot be combined: only the two matrices of linears and embeddings \
                can; merge the adapter into its base instead: peft merge
                """)
        #expect(
            try message(
                [a, Self.adapter("d") { $0.initLoraWeights = .pissa }], AdapterCombination())
                    == """
                    d: its start, init_lora_weights pissa, is taken from the weights of the base, which the other \
                    adapters need as they are; write it as a plain LoRA first: peft export --format peft-lora
                    """)
        var tensors = a.tensors
        let name = "base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight"
        tensors[name] = try Tensor.zeros([9, 3])
        #expect(
            try message(
                [
                    a,
                    WeightedAdapter(name: "e", config: a.config, tensors: tensors, weight: 1),
                ], AdapterCombination()) == """
                    model.layers.0.self_attn.q_proj: expected the size that the layer has in a, [60, 30], found \
                    [9, 30] in e; are both of one base model?
                    """)
        tensors[name] = try Tensor.full([60, 3], .nan)
        #expect(
            try message(
                [
                    a,
                    WeightedAdapter(name: "e", config: a.config, tensors: tensors, weight: 1),
                ], AdapterCombination(type: .cat)) == """
                    model.layers.0.self_attn.q_proj: the combined matrices hold an infinity or a NaN; does one of \
                    the adapters?
                    """)
        tensors[name] = nil
        tensors["extra"] = try Tensor.zeros([2])
        let error = try message(
            [a, WeightedAdapter(name: "e", config: a.config, tensors: tensors, weight: 1)],
            AdapterCombination())
        #expect(error?.contains("e: The tensors are not those of the adapter") == true)
        #expect(error?.contains("\(name): missing") == true)
        #expect(error?.contains("extra: unexpected") == true)
    }

    @Test func anotherBaseIsRefused() throws {
        let folder = workspace.url.appending(path: "other")
        let source = try AdapterFolder.read(Checkout.fixture("combine/b"))
        var config = try LoRAConfig(adapterConfigJSON: source.configuration)
        config.baseModelNameOrPath = "models/tied"
        try AdapterFolder.write(
            configuration: config.adapterConfigJSON(), tensors: Self.tensors(source.weights),
            to: folder)
        let error = #expect(throws: CombinationError.self) {
            try Combine.run(options([("a", 1), (folder.path, 1)]))
        }
        #expect(
            error?.description == """
                \(folder.path): expected the base model of \(Checkout.fixture("combine/a").path), \
                models/grouped, found models/tied; combine adapters of one base, or give \
                --ignore-base-fingerprint if it is the same all the same
                """)
        _ = try Combine.run(
            options([("a", 1), (folder.path, 1)]) { $0.ignoreBaseFingerprint = true })
    }

    @Test(arguments: [
        (
            CombinationType.linear, 0.5 as Double?,
            "density: expected none with type linear, which leaves nothing out, found 0.5"
        ),
        (.ties, nil, "density: expected a number above 0, at most 1, found none"),
        (.dareLinear, 0, "density: expected a number above 0, at most 1, found 0.0"),
    ])
    func valuesThatATypeDoesNotHaveAreRefused(
        type: CombinationType, density: Double?, message: String
    ) throws {
        let error = #expect(throws: CombinationError.self) {
            try AdapterCombination(type: type, density: density).validate()
        }
        #expect(error?.description == message)
    }
}
