import Foundation
import PEFT
import PEFTTraining
import TestSupport
import Testing
import TrainingTestSupport

/// llama.cpp's file of an adapter holds the update in llama.cpp's order of rows.
@Suite struct ExportTests {
    /// The tensors of a GGUF file whose elements are float32, as rows.
    private func floats(_ file: GGUFFile, _ name: String) throws -> Tensor {
        let info = try #require(file.info(name))
        #expect(info.type.name == "F32")
        let bytes = try Data(contentsOf: file.file.url)[info.byteRange]
        let values = bytes.withUnsafeBytes { raw in
            (0..<raw.count / 4).map { raw.loadUnaligned(fromByteOffset: 4 * $0, as: Float.self) }
        }
        return try Tensor(values, shape: info.shape)
    }

    /// Base, adapter and merged model as llama.cpp's files: `W + alpha / r B A` of each layer, rows as they lie there.
    @Test(arguments: [
        ("grouped", "llama", false), ("grouped", "llama", true), ("gpt-neox", "gptneox", false),
    ])
    func layersAreThoseOfTheMergedFile(
        _ name: String, _ architecture: String, _ hasPatterns: Bool
    ) throws {
        let model = Checkout.fixture("models/\(name)/model.gguf").path
        let rows = TinyRows.make(24).map { row in row.map { $0 % 20 } }
        var run = try TinyRun(rows: rows, model: model, steps: 3)
        run.config.targetModules = .allLinear
        if hasPatterns {
            run.config.rankPattern = ["v_proj": 2]
            run.config.useRslora = true
        }
        try run.run()
        var export = ExportOptions()
        export.adapter = run.config.outputDir
        export.output = run.workspace.path("adapter.gguf")
        let summary = try Export.run(export)
        #expect(summary.numLayers > 7)
        var merge = MergeOptions()
        merge.adapter = run.config.outputDir
        merge.output = run.workspace.path("merged.gguf")
        merge.format = .ggufF16
        merge.threads = 1
        _ = try Merge.run(merge)

        let file = try GGUFFile(URL(filePath: export.output))
        #expect(file.metadata.string("general.architecture") == architecture)
        #expect(file.metadata.string("general.type") == "adapter")
        #expect(file.metadata.string("adapter.type") == "lora")
        let alpha = try #require(file.metadata.double("adapter.lora.alpha"))
        #expect(hasPatterns || alpha == 8)
        #expect(file.tensors.count == 2 * summary.numLayers)
        let (base, merged) = (
            try GGUFFile(URL(filePath: model)), try GGUFFile(URL(filePath: merge.output))
        )
        var numCompared = 0
        for info in base.tensors where file.info(info.name + ".lora_a") != nil {
            numCompared += 1
            let a = try floats(file, info.name + ".lora_a")
            let b = try floats(file, info.name + ".lora_b")
            let weight = try floats(base, info.name)
            let update = try b.matmul(a) * (alpha / Double(a.shape[0]))
            let sum = try (weight + update).to(.float16).floats()
            let stored = try #require(merged.info(info.name))
            let bytes = try Data(contentsOf: merged.file.url)[stored.byteRange]
            let found = bytes.withUnsafeBytes { raw in
                (0..<raw.count / 2).map {
                    Float(raw.loadUnaligned(fromByteOffset: 2 * $0, as: Float16.self))
                }
            }
            #expect(
                Tolerance.relativeError(found, sum) < Tolerance.float16Values / 10, "\(info.name)")
            #expect(
                Tolerance.relativeError(sum, try weight.floats()) > Tolerance.float16Values,
                "\(info.name)")
        }
        #expect(numCompared == summary.numLayers)
    }

    @Test func anAdapterOfATiedHeadIsRefused() throws {
        var run = try TinyRun(steps: 2)
        run.config.targetModules = .names(["lm_head"])
        try run.run()
        var export = ExportOptions()
        export.adapter = run.config.outputDir
        export.output = run.workspace.path("adapter.gguf")
        #expect(throws: MergeError.headIsTied(path: "lm_head")) { try Export.run(export) }
        #expect(!FileManager.default.fileExists(atPath: export.output))
    }
}
