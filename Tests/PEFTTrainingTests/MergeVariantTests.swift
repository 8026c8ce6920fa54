import Foundation
import PEFT
import PEFTTraining
import TestSupport
import Testing
import TrainingTestSupport

/// What LoRA trains besides matrices of linears is merged as by PEFT; fixtures are its `merge_and_unload`, float32.
@Suite struct MergeVariantTests {
    /// A merge of PEFT's.
    struct Case: CustomTestStringConvertible, Sendable {
        let testDescription: String

        var file: URL { Checkout.fixture("export/merges/\(testDescription).safetensors") }

        /// The folders of base and adapter, whether the head is tied, and the tensors that are not the base's.
        func read() throws -> (
            base: String, adapter: String, isTied: Bool, changed: [String: Tensor]
        ) {
            let file = try SafetensorsFile(file)
            func key(_ name: String) throws -> String { try #require(file.metadata?[name]) }
            let tensors = try file.entries.map { ($0.name, try file.tensor($0)) }
            return (
                base: Checkout.fixture("models/\(try key("base"))").path,
                adapter: Checkout.fixture("\(try key("adapter"))/\(testDescription)").path,
                isTied: try key("tied") == "true",
                changed: Dictionary(uniqueKeysWithValues: tensors)
            )
        }

        static let all: [Case] = {
            let names = try? FileManager.default.contentsOfDirectory(
                atPath: Checkout.fixture("export/merges").path)
            return (names ?? []).sorted().map {
                Case(testDescription: String($0.prefix { $0 != "." }))
            }
        }()

        /// Those whose base is there as a GGUF file, too.
        static let ofFiles = all.filter { item in
            let base = try? item.read().base
            return base.map { FileManager.default.fileExists(atPath: $0 + "/model.gguf") } ?? false
        }
    }

    private let workspace: Workspace

    init() throws {
        workspace = try Workspace()
    }

    private func options(_ adapter: String, _ model: String, _ output: String) -> MergeOptions {
        var options = MergeOptions()
        options.model = model
        options.adapter = adapter
        options.output = workspace.path(output)
        options.threads = 1
        return options
    }

    private func tensors(_ folder: String) throws -> [String: Tensor] {
        let file = try SafetensorsFile(
            URL(filePath: folder).appending(path: "model.safetensors"))
        return Dictionary(
            uniqueKeysWithValues: try file.entries.map { ($0.name, try file.tensor($0)) })
    }

    @Test func thereAreCases() {
        #expect(Case.all.count == 23)
        #expect(Case.ofFiles.count == 12)
    }

    @Test(arguments: Case.all)
    func foldersAreThoseOfPEFT(_ item: Case) throws {
        let (base, adapter, isTied, changed) = try item.read()
        let report = try Merge.run(options(adapter, base, "merged"))
        let (found, before) = (try tensors(workspace.path("merged")), try tensors(base))
        #expect(Set(found.keys) == Set(changed.keys).union(before.keys))
        for (name, tensor) in found {
            guard let expected = changed[name] else {
                if let same = before[name] { #expect(try tensor.isEqual(to: same), "\(name)") }
                continue
            }
            #expect(tensor.shape == expected.shape, "\(name)")
            #expect(
                Tolerance.relativeError(try tensor.floats(), try expected.floats())
                    < Tolerance.float32, "\(name)")
        }
        let config = try ConfigValue(
            json: Data(contentsOf: workspace.url.appending(path: "merged/config.json")))
        guard case .object(let keys) = config else {
            Issue.record("config.json is no object")
            return
        }
        #expect((keys["tie_word_embeddings"] ?? .bool(true)) == .bool(isTied))
        #expect(report.layers.count > 0)
        #expect(report.total.survived > 0.999)
    }

    /// Vectors, tables and experts in a GGUF file, in llama.cpp's order of rows.
    @Test(arguments: Case.ofFiles)
    func filesHoldTheSameNumbers(_ item: Case) throws {
        let (base, adapter, _, changed) = try item.read()
        var merge = options(adapter, base + "/model.gguf", "merged.gguf")
        merge.format = .ggufF16
        _ = try Merge.run(merge)
        let conventions = ModelRegistry.fileConventions(
            try Data(contentsOf: URL(filePath: base).appending(path: "config.json")))
        let source = try BaseModelFiles.open(URL(filePath: merge.output)).source
        var numCompared = 0
        for path in source.names {
            let (expected, count) = try whole(path, of: changed, conventions)
            guard let expected else { continue }
            numCompared += count
            let found = try source.tensor(at: path, shape: expected.shape)
            #expect(
                Tolerance.relativeError(try found.floats(), try expected.floats())
                    < Tolerance.float16Values, "\(path)")
        }
        #expect(numCompared == changed.count)
    }

    /// A tensor of the model from those that transformers wrote, and of how many; nil if none is there.
    private func whole(
        _ path: String, of changed: [String: Tensor], _ conventions: FileConventions
    ) throws -> (Tensor?, count: Int) {
        let stored = changed[conventions.storedName(path)]
        if let stored {
            let isTransposed = conventions.isTransposed(path, shape: stored.shape)
            return (isTransposed ? try stored.transposed().contiguous() : stored, 1)
        }
        var (pieces, numExperts): ([Tensor], Int) = ([], 0)
        func expert(_ index: Int) -> [Tensor]? {
            // Of one expert more than there are, the last is not stored.
            let names = conventions.expertPieces(of: path, shape: [index + 1, 0, 0]) ?? []
            let last = names.suffix(names.count / (index + 1)).compactMap {
                changed[conventions.storedName($0.name)]
            }
            return last.isEmpty ? nil : last
        }
        while let tensors = expert(numExperts) {
            pieces += tensors
            numExperts += 1
        }
        guard let width = pieces.first?.shape[1] else { return (nil, 0) }
        return (
            try Tensor.concatenated(pieces).reshape([numExperts, -1, width]), pieces.count
        )
    }

    /// Experts in NF4, whose numbers the adapter was trained beside.
    @Test func expertsOfAQuantizedBaseAreDecoded() throws {
        let model = Checkout.fixture("models/qwen3-moe").path
        var run = try TinyRun(
            rows: TinyRows.make(24).map { row in row.map { $0 % 20 } }, model: model, steps: 3)
        run.config.targetModules = .allLinear
        run.config.quantize = .nf4
        try run.run()
        var merge = options(run.config.outputDir, model, "merged")
        merge.dtype = .float32
        let report = try Merge.run(merge)
        #expect(report.base == "the base in nf4, block 64, double quantized, decoded")
        var score = ScoreOptions()
        score.data = run.config.data
        score.dtype = .float32
        score.threads = 1
        score.model = model
        score.adapter = AdapterFolders([run.config.outputDir])
        let adapted = try Score.run(score).rows.map(\.negativeLogLikelihood)
        score.adapter = AdapterFolders()
        let base = try Score.run(score).rows.map(\.negativeLogLikelihood)
        score.model = workspace.path("merged")
        score.quantize = .none
        let merged = try Score.run(score).rows.map(\.negativeLogLikelihood)
        for (index, loss) in adapted.enumerated() {
            #expect(abs(merged[index] - loss) < Tolerance.trainingLoss * loss)
            #expect(abs(base[index] - loss) > 10 * Tolerance.trainingLoss * loss)
        }
    }

    // MARK: - Refusals

    @Test func aBiasNeedsABias() throws {
        #expect(throws: MergeError.noBias(path: "model.layers.0.self_attn.q_proj")) {
            try Merge.run(
                options(
                    Checkout.fixture("lora/lora-bias-alone").path,
                    Checkout.fixture("models/grouped").path, "merged"))
        }
        #expect(try RunFiles.names(in: workspace.url.path).isEmpty)
    }

    @Test func expertsAreNotWrittenInFourBits() throws {
        let base = Checkout.fixture("models/mixtral").path
        var merge = options(Checkout.fixture("experts/names").path, base, "merged")
        merge.quantize = .nf4
        let error = #expect(throws: MergeError.self) { try Merge.run(merge) }
        #expect(
            error?.description.hasPrefix(
                "\(base): the model is a mixture of experts "
                    + "(model.layers.0.mlp.experts.gate_up_proj), of which no 4-bit folder is written"
            )
                == true)
    }
}
