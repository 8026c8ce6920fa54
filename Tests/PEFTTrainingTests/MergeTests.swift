import Foundation
import PEFT
import PEFTTraining
import TestSupport
import Testing
import TrainingTestSupport

/// A merged model computes what its base computes with the adapter; fixtures are PEFT's own merges.
@Suite struct MergeTests {
    private let workspace: Workspace

    init() throws {
        workspace = try Workspace()
    }

    private static func fixture(_ name: String) -> String {
        Checkout.fixture("export/\(name)").path
    }

    private func options(
        _ output: String, model: String = fixture("base"), adapter: String = fixture("adapter"),
        _ change: (inout MergeOptions) -> Void = { _ in }
    ) -> MergeOptions {
        var options = MergeOptions()
        options.model = model
        options.adapter = adapter
        options.output = workspace.path(output)
        options.threads = 1
        change(&options)
        return options
    }

    private func tensors(_ folder: String) throws -> [String: Tensor] {
        let weights = try ShardedSafetensors(folder: URL(filePath: folder))
        var result: [String: Tensor] = [:]
        for file in weights.files {
            for entry in file.entries { result[entry.name] = try file.tensor(entry) }
        }
        return result
    }

    private func expectEqual(_ folder: String, _ reference: String) throws {
        let (found, expected) = (try tensors(folder), try tensors(reference))
        #expect(found.keys.sorted() == expected.keys.sorted())
        for (name, tensor) in expected {
            let ours = try #require(found[name])
            #expect(ours.shape == tensor.shape, "\(name)")
            #expect(
                Tolerance.relativeError(try ours.floats(), try tensor.floats())
                    < Tolerance.float32, "\(name)")
        }
    }

    // MARK: - Against PEFT

    @Test func weightsAreThoseOfPEFT() throws {
        let report = try Merge.run(
            options("merged") {
                $0.dtype = .float32
                $0.baseQuantize = .none
            })
        try expectEqual(workspace.path("merged"), Self.fixture("merged-float32"))
        // q, v and down of two blocks, and the head.
        #expect(report.layers.count == 7)
        #expect(report.layers.allSatisfy { abs($0.survived - 1) < 1e-4 && $0.noise < 1e-3 })
    }

    @Test func aFourBitFolderIsDecoded() throws {
        let report = try Merge.run(
            options("merged", model: Self.fixture("nf4")) {
                $0.dtype = .float32
                $0.ignoreBaseFingerprint = true
            })
        try expectEqual(workspace.path("merged"), Self.fixture("merged-nf4"))
        #expect(report.base == "the base in nf4, block 64, double quantized, decoded")
        let config = try String(
            contentsOfFile: workspace.path("merged/config.json"), encoding: .utf8)
        #expect(!config.contains("quantization_config"))
    }

    @Test func aBaseIsQuantizedAndDecodedAsARunDoes() throws {
        _ = try Merge.run(
            options("merged") {
                $0.dtype = .float32
                $0.baseQuantize = .nf4
            })
        try expectEqual(workspace.path("merged"), Self.fixture("merged-nf4"))
    }

    /// Once rounded, and nothing else is changed.
    @Test func numbersAreRoundedToTheBasesElementType() throws {
        let report = try Merge.run(options("merged") { $0.baseQuantize = .none })
        let (found, base) = (
            try tensors(workspace.path("merged")), try tensors(Self.fixture("base"))
        )
        let adapted = Set(report.layers.map(\.path))
        for (name, tensor) in try tensors(Self.fixture("merged-float32")) {
            let ours = try #require(found[name])
            #expect(ours.dtype == .bfloat16)
            if adapted.contains(name) {
                #expect(
                    Tolerance.relativeError(
                        try ours.floats(), try tensor.to(.bfloat16).floats()) < 1e-4, "\(name)")
            } else {
                #expect(try ours.isEqual(to: #require(base[name])), "\(name)")
            }
        }
        #expect(
            try RunFiles.bytes(workspace.path("merged/config.json"))
                == RunFiles.bytes(Self.fixture("base") + "/config.json"))
        #expect(
            try RunFiles.names(in: workspace.path("merged")) == [
                "config.json", "model.safetensors",
            ])
    }

    // MARK: - Merge equals forward

    private func trained(
        on model: String, targets: ModuleSelection,
        _ change: (inout FineTuneConfig) -> Void = { _ in }
    ) throws -> TinyRun {
        // Below the smallest vocabulary of the fixtures.
        let rows = TinyRows.make(24).map { row in row.map { $0 % 20 } }
        var run = try TinyRun(rows: rows, model: model, steps: 3)
        run.config.targetModules = targets
        change(&run.config)
        try run.run()
        return run
    }

    private func losses(
        _ run: TinyRun, model: String, adapter: String?,
        quantize: BaseQuantization = .none
    ) throws -> [Double] {
        var options = ScoreOptions()
        options.model = model
        options.adapter = AdapterFolders(adapter.map { [$0] } ?? [])
        options.data = run.config.data
        options.quantize = quantize
        options.dtype = .float32
        options.threads = 1
        return try Score.run(options).rows.map(\.negativeLogLikelihood)
    }

    @Test(arguments: [
        ("tied", "all-linear"), ("tied", "lm_head"), ("gpt2", "all-linear"), ("phi3", "all-linear"),
        ("gpt-neox", "all-linear"), ("gemma2", "all-linear"),
    ])
    func mergedModelsComputeTheSame(_ name: String, _ targets: String) throws {
        let model = Checkout.fixture("models/\(name)").path
        let run = try trained(on: model, targets: ModuleSelection(targets))
        let adapted = try losses(run, model: model, adapter: run.config.outputDir)
        _ = try Merge.run(
            options("merged", model: model, adapter: run.config.outputDir) { $0.dtype = .float32 })
        let merged = try losses(run, model: workspace.path("merged"), adapter: nil)
        let base = try losses(run, model: model, adapter: nil)
        for (index, loss) in adapted.enumerated() {
            #expect(abs(merged[index] - loss) < Tolerance.trainingLoss * loss)
            #expect(abs(base[index] - loss) > 10 * Tolerance.trainingLoss * loss)
        }
    }

    /// The adapter says that its base was in NF4, and itself names the base.
    @Test func theBaseOfTheRunIsFoundAgain() throws {
        let run = try trained(on: TinyModel.grouped, targets: .allLinear) {
            $0.quantize = .nf4
            $0.quantBlockSize = 32
            $0.doubleQuant = false
        }
        var merge = options("merged", adapter: run.config.outputDir) { $0.dtype = .float32 }
        merge.model = nil
        let report = try Merge.run(merge)
        #expect(report.base == "the base in nf4, block 32, decoded")
        let merged = try losses(run, model: workspace.path("merged"), adapter: nil)
        var options = ScoreOptions()
        options.model = TinyModel.grouped
        options.adapter = AdapterFolders([run.config.outputDir])
        options.data = run.config.data
        options.quantBlockSize = 32
        options.doubleQuant = false
        options.dtype = .float32
        options.threads = 1
        for (found, row) in zip(merged, try Score.run(options).rows) {
            #expect(
                abs(found - row.negativeLogLikelihood)
                    < Tolerance.trainingLoss * row.negativeLogLikelihood)
        }
    }

    @Test(arguments: [
        ("grouped", ModelFormat.ggufF16), ("grouped", .ggufQ8), ("gpt-neox", .ggufF16),
        ("gemma2", .ggufQ8),
    ])
    func aGGUFFileKeepsItsMetadata(_ name: String, _ format: ModelFormat) throws {
        let model = Checkout.fixture("models/\(name)/model.gguf").path
        let run = try trained(on: model, targets: .allLinear)
        let report = try Merge.run(
            options("merged.gguf", model: model, adapter: run.config.outputDir) {
                $0.format = format
            })
        let (before, after) = (
            try GGUFFile(URL(filePath: model)),
            try GGUFFile(URL(filePath: workspace.path("merged.gguf")))
        )
        #expect(Set(after.metadata.keys).isSuperset(of: before.metadata.keys))
        for key in before.metadata.keys where key != "general.file_type" {
            #expect(after.metadata[key] == before.metadata[key], "\(key)")
        }
        #expect(after.metadata.int("general.file_type") == (format == .ggufF16 ? 1 : 7))
        #expect(after.tensors.map(\.name) == before.tensors.map(\.name))
        for (tensor, old) in zip(after.tensors, before.tensors) {
            let holdsBlocks = (tensor.shape.last ?? 0).isMultiple(of: 32)
            let expected = format == .ggufQ8 && holdsBlocks ? "Q8_0" : "F16"
            #expect(tensor.type.name == (tensor.shape.count == 2 ? expected : old.type.name))
            #expect(tensor.shape == old.shape)
        }
        #expect(report.layers.count > 7)
        let adapted = try losses(run, model: model, adapter: run.config.outputDir)
        let merged = try losses(run, model: workspace.path("merged.gguf"), adapter: nil)
        for (found, expected) in zip(merged, adapted) {
            #expect(abs(found - expected) < Tolerance.bfloat16 * expected)
        }
    }

    /// Blocks of 8 bits, rows in llama.cpp's order: read back they are the merged folder's numbers.
    @Test func eightBitFilesHoldTheMergedNumbers() throws {
        let run = try trained(
            on: Checkout.fixture("checkpoints/llama-float32").path, targets: .allLinear)
        _ = try Merge.run(
            options("merged", model: run.config.model, adapter: run.config.outputDir))
        let report = try Merge.run(
            options(
                "merged.gguf", model: Checkout.fixture("checkpoints/llama-F32.gguf").path,
                adapter: run.config.outputDir
            ) { $0.format = .ggufQ8 })
        #expect(report.storage == "Q8_0")
        let url = URL(filePath: workspace.path("merged.gguf"))
        #expect(try GGUFFile(url).tensors.contains { $0.type.name == "Q8_0" })
        let source = try BaseModelFiles.open(url).source
        for (name, expected) in try tensors(workspace.path("merged")) {
            let found = try source.tensor(at: name, shape: expected.shape)
            #expect(
                Tolerance.relativeError(try found.floats(), try expected.floats())
                    < Tolerance.bfloat16, "\(name)")
        }
    }

    // MARK: - What is lost

    /// An update far below the last bit of bfloat16.
    private func faintAdapter() throws -> String {
        let folder = workspace.url.appending(path: "faint")
        try FileManager.default.copyItem(
            at: Checkout.fixture("export/adapter"), to: folder)
        let url = folder.appending(path: "adapter_model.safetensors")
        let file = try SafetensorsFile(url)
        let tensors = try file.entries.map { entry in
            let scale = entry.name.contains("lora_B") ? 1e-4 : 1
            return SafetensorsTensor(name: entry.name, try file.tensor(entry) * scale)
        }
        try FileManager.default.removeItem(at: url)
        try SafetensorsWriter.write(tensors, to: url)
        return folder.path
    }

    @Test func aLostUpdateIsRefused() throws {
        let adapter = try faintAdapter()
        let error = #expect(throws: MergeError.self) {
            try Merge.run(options("merged", adapter: adapter))
        }
        guard case .updateLost(let survived, _, let worst) = error else {
            Issue.record("\(String(describing: error))")
            return
        }
        #expect(survived < 0.2)
        #expect(worst.count == 3)
        #expect(error?.description.contains("--allow-lost-update") == true)
        #expect(try RunFiles.names(in: workspace.url.path) == ["faint"])
        let report = try Merge.run(
            options("merged", adapter: adapter) { $0.allowLostUpdate = true })
        #expect(report.lost.count > 3)
        #expect(report.total.survived == survived)
        // In float32 it is there.
        let wide = try Merge.run(options("wide", adapter: adapter) { $0.dtype = .float32 })
        #expect(wide.lost.isEmpty)
    }

    @Test func fourBitMergesSayWhatSurvives() throws {
        let error = #expect(throws: MergeError.self) {
            try Merge.run(
                options("merged", adapter: faintAdapter()) {
                    $0.baseQuantize = .nf4
                    $0.quantize = .nf4
                })
        }
        #expect(error?.description.contains("nf4, block 64, double quantized") == true)
    }

    /// Merging into 4 bits is merging, then quantizing.
    @Test func fourBitMergesAreQuantizedMerges() throws {
        _ = try Merge.run(
            options("four") {
                $0.quantize = .nf4
                $0.allowLostUpdate = true
            })
        _ = try Merge.run(options("merged"))
        var quantize = QuantizeOptions()
        quantize.model = workspace.path("merged")
        quantize.output = workspace.path("quantized")
        quantize.threads = 1
        _ = try Quantize.run(quantize)
        #expect(
            try RunFiles.bytes(workspace.path("four/model.safetensors"))
                == RunFiles.bytes(workspace.path("quantized/model.safetensors")))
    }

    // MARK: - Refusals

    @Test func nothingIsReplaced() throws {
        try workspace.write("mine", as: "merged")
        let error = #expect(throws: CheckpointError.self) { try Merge.run(options("merged")) }
        #expect(
            error?.description == "\(workspace.path("merged")): cannot be written: "
                + "there is a file already; give another path, or remove what is there")
        #expect(
            try String(contentsOfFile: workspace.path("merged"), encoding: .utf8) == "mine")
    }

    @Test func anotherBaseIsRefused() throws {
        let run = try trained(on: TinyModel.tied, targets: .allLinear)
        let other = try TinyModel.copy(
            of: TinyModel.tied, to: workspace.url.appending(path: "other")
        ) { try $0.hasSuffix("up_proj.weight") ? $1 * 1.5 : $1 }
        let error = #expect(throws: Diagnosis.self) {
            try Merge.run(options("merged", model: other, adapter: run.config.outputDir))
        }
        #expect(error?.code == .otherBase)
        #expect(try RunFiles.names(in: workspace.url.path) == ["other"])
    }

    @Test func whatDoesNotGoTogetherIsRefused() throws {
        func error(_ options: MergeOptions) -> String? {
            do {
                _ = try Merge.run(options)
                return nil
            } catch {
                return "\(error)"
            }
        }
        let base = Self.fixture("base")
        #expect(
            error(options("a.gguf") { $0.format = .ggufF16 })?.hasPrefix(
                "\(base): a GGUF file is written with the metadata of the base") == true)
        #expect(
            error(options("a", model: Self.fixture("nf4")) { $0.baseQuantize = .fp4 })?.hasPrefix(
                "\(Self.fixture("nf4")): the base is quantized already (nf4, block 64, double quantized)"
            )
                == true)
        var unnamed = options("a")
        unnamed.model = nil
        #expect(error(unnamed)?.contains("its base model base is not a path that is there") == true)
    }
}
