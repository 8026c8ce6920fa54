import Foundation
import PEFT
import PEFTTraining
import Testing
import TrainingTestSupport

@Suite struct InitModelTests {
    private let workspace: Workspace
    private let config: String

    init() throws {
        workspace = try Workspace()
        config = try workspace.write(
            """
            {"model_type": "llama", "vocab_size": 61, "hidden_size": 24, "intermediate_size": 40, \
            "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2, \
            "attention_bias": true, "max_position_embeddings": 64, "tie_word_embeddings": false, \
            "initializer_range": 0.05}
            """, as: "config.json")
    }

    private func options(_ output: String, seed: Int = 7) -> InitModelOptions {
        var options = InitModelOptions()
        options.config = config
        options.outputDir = workspace.path(output)
        options.seed = seed
        return options
    }

    private func weights(_ output: String) throws -> ShardedSafetensors {
        try ShardedSafetensors(folder: URL(filePath: workspace.path(output)))
    }

    @Test func theSeedDecidesTheNumbers() throws {
        let summary = try InitModel.run(options("a"))
        #expect(summary.files == ["model.safetensors"])
        _ = try InitModel.run(options("b"))
        _ = try InitModel.run(options("c", seed: 8))
        let bytes = try ["a", "b", "c"].map {
            try RunFiles.bytes(workspace.path("\($0)/model.safetensors"))
        }
        #expect(bytes[0] == bytes[1])
        #expect(bytes[0] != bytes[2])
        let base = try BaseModel(
            at: URL(filePath: workspace.path("a")),
            options: BaseModelOptions(quantization: nil, computeDType: .float32))
        #expect(base.registry.numElements == summary.numParameters)
        #expect(summary.sizeBytes == 2 * summary.numParameters)
    }

    @Test func numbersAreThoseOfAFreshModel() throws {
        var options = options("a")
        options.dtype = .float32
        _ = try InitModel.run(options)
        let file = try weights("a").files[0]
        for entry in file.entries {
            let values = try file.tensor(entry).floats()
            guard entry.shape.count > 1 else {
                #expect(values.allSatisfy { $0 == (entry.name.hasSuffix("bias") ? 0 : 1) })
                continue
            }
            let square = values.reduce(0) { $0 + $1 * $1 } / Float(values.count)
            #expect((0.04...0.06).contains(square.squareRoot()), "\(entry.name)")
        }
    }

    /// Files of at most one megabyte: a vocabulary of 20,000 takes two of them.
    @Test func largeModelsAreDividedAsTransformersDoes() throws {
        let text = try String(contentsOfFile: config, encoding: .utf8)
        try workspace.write(
            text.replacing("\"vocab_size\": 61", with: "\"vocab_size\": 20000"), as: "config.json")
        var options = options("a")
        options.maxShardMegabytes = 1
        let summary = try InitModel.run(options)
        #expect(
            summary.files == [
                "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors",
            ])
        #expect(
            try RunFiles.names(in: workspace.path("a"))
                == ["config.json"] + summary.files + ["model.safetensors.index.json"])
        let index = try JSONValue(
            parsing: String(
                contentsOfFile: workspace.path("a/model.safetensors.index.json"), encoding: .utf8))
        #expect(
            index.objectValue?["metadata"]?.objectValue?["total_size"] == .int(summary.sizeBytes))
        _ = try BaseModel(
            at: URL(filePath: workspace.path("a")),
            options: BaseModelOptions(quantization: .init(), computeDType: .bfloat16))
    }

    @Test func aModelThatIsThereStaysUnlessItIsToBeReplaced() throws {
        _ = try InitModel.run(options("a"))
        let before = try RunFiles.bytes(workspace.path("a/model.safetensors"))
        let error = #expect(throws: CheckpointError.self) {
            try InitModel.run(options("a", seed: 8))
        }
        #expect(error?.description.contains("--overwrite") == true)
        #expect(try RunFiles.bytes(workspace.path("a/model.safetensors")) == before)
        var replacing = options("a", seed: 8)
        replacing.overwrite = true
        _ = try InitModel.run(replacing)
        #expect(try RunFiles.bytes(workspace.path("a/model.safetensors")) != before)
    }

    @Test func rowsOfTokensTrainAModelWithoutTokenizer() throws {
        _ = try InitModel.run(options("model"))
        let run = try TinyRun(model: workspace.path("model"), steps: 2)
        try run.run()
        #expect(try run.losses.count == 2)
    }
}
