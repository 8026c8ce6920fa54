import Foundation
import PEFTCheckpoints
import PEFTLayers
import PEFTModels
import TestSupport
import Testing
import Torch

/// Files of each family as llama.cpp's converter writes them, beside the same models in Hugging Face's form.
@Suite struct GGUFFamilyTests {
    static let cases = [
        "grouped", "rope-llama3", "rope-yarn", "rope-linear", "biased", "mistral-no-window",
        "qwen2",
        "qwen3", "smollm3", "granite", "olmo2", "phi3", "phi3-longrope", "gemma2", "gemma3",
        "gpt-neox", "gpt-neox-sequential", "gpt2", "mixtral", "qwen3-moe-even", "olmoe",
    ]

    @Test func everyFileIsACase() throws {
        let models = Checkout.fixture("models")
        let folders = try FileManager.default.contentsOfDirectory(atPath: models.path)
        let found = folders.filter {
            FileManager.default.fileExists(
                atPath: models.appending(path: "\($0)/model.gguf").path)
        }
        #expect(Set(found) == Set(Self.cases))
    }

    @Test(arguments: cases)
    func logitsEqualTransformers(name: String) throws {
        let folder = Checkout.fixture("models/\(name)")
        let files = try BaseModelFiles.open(folder.appending(path: "model.gguf"))
        let model = try ModelRegistry.makeModel(
            config: files.configuration,
            Scope(registry: ModuleRegistry(), source: files.source))
        try files.source.verifyAllConsumed()
        let expected = try SafetensorsFile(folder.appending(path: "expected.safetensors"))
        for index in 0..<4 {
            let tokens = try expected.tensor(try #require(expected.entry("tokens.\(index)")))
            let context = ForwardContext(
                layout: SequenceLayout(segmentLengths: [tokens.numElements]))
            let found = try withoutGrad {
                let hidden = try model.hiddenStates(
                    tokens, context: context, execution: ResidentExecution())
                return try model.logits(hidden, context: context)
            }
            let logits = try expected.tensor(try #require(expected.entry("logits.\(index)")))
            #expect(
                Tolerance.maxError(try found.floats(), try logits.floats()) <= Tolerance.logits,
                "sequence \(index)")
        }
    }

    /// What one of several processes reads is part of the whole, whatever was done to the rows.
    @Test(arguments: ["grouped", "gemma3", "gpt-neox", "gpt2", "mixtral", "qwen3-moe-even"])
    func partsOfTensorsAreThoseOfTheWhole(name: String) throws {
        let url = Checkout.fixture("models/\(name)/model.gguf")
        try expectParts(BaseModelFiles.open(url))
        try expectParts(BaseModelFiles.open(url.deletingLastPathComponent()))
    }

    private func expectParts(_ files: BaseModelFiles) throws {
        let shapes = ShapeSource()
        _ = try ModelRegistry.makeModel(
            config: files.configuration, Scope(registry: ModuleRegistry(), source: shapes))
        for (path, shape) in shapes.shapes {
            let count = shape.reduce(1, *)
            let whole = try files.source.tensor(at: path, shape: shape).contiguous().floats()
            let bounds = [0, count / 7, count / 7, count / 2 + 1, count]
            for (start, end) in zip(bounds, bounds.dropFirst()) {
                let part = try files.source.elements(start..<end, at: path, shape: shape)
                #expect(try part.contiguous().floats() == Array(whole[start..<end]), "\(path)")
            }
        }
    }
}
