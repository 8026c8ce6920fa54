import Foundation
import PEFTCheckpoints
import TestSupport
import Testing
import Torch

@Suite struct ShardedSafetensorsTests {
    @Test func shardsAreOneSetOfTensors() throws {
        let single = try ShardedSafetensors(folder: fixture("llama-float32"))
        let sharded = try ShardedSafetensors(folder: fixture("llama-bfloat16"))
        #expect(single.files.count == 1)
        #expect(sharded.files.count == 3)
        #expect(sharded.names == single.names)
        #expect(sharded.names.count == 20)
        #expect(sharded.sizeBytes == sharded.files.reduce(0) { $0 + $1.file.sizeBytes })
        for name in single.names {
            #expect(sharded.entry(name)?.shape == single.entry(name)?.shape)
            #expect(sharded.entry(name)?.dtype == .bfloat16)
        }
    }

    @Test func everyDifferenceFromTheIndexIsReported() throws {
        let folder = try copy("llama-bfloat16")
        defer { try? FileManager.default.removeItem(at: folder) }
        try FileManager.default.removeItem(
            at: folder.appending(path: "model-00003-of-00003.safetensors"))
        let index = folder.appending(path: "model.safetensors.index.json")
        let text = try String(contentsOf: index, encoding: .utf8)
        try text.replacing("layers.0.mlp.up_proj", with: "layers.0.mlp.upper_proj")
            .write(to: index, atomically: true, encoding: .utf8)
        let shard = text.split(separator: "\n").first { $0.contains("layers.0.mlp.up_proj") }
        let file = try #require(shard?.split(separator: "\"").last { $0.hasSuffix("safetensors") })
        let missing = text.split(separator: "\n").count { $0.contains("model-00003-of") }
        #expect(
            checkpointError { _ = try ShardedSafetensors(folder: folder) }?.description == """
                \(index.path): 3 problems with the stored tensors:
                  model-00003-of-00003.safetensors: this shard of \(missing) tensors is not in the \
                folder; copy or download it
                  model.layers.0.mlp.upper_proj.weight: the index places it in \(file), which does \
                not hold it
                  model.layers.0.mlp.up_proj.weight: stored in \(file), but the index does not \
                place it there
                """)
    }

    @Test func aDamagedIndex() throws {
        let folder = try copy("llama-bfloat16")
        defer { try? FileManager.default.removeItem(at: folder) }
        let index = try folder.write(Data("{}".utf8), "model.safetensors.index.json")
        #expect(
            checkpointError { _ = try ShardedSafetensors(folder: folder) }?.description
                == "\(index.path): not a JSON object with a \"weight_map\" of file names; "
                + "the file is damaged: copy or download it again")
    }

    @Test func onlyPickledWeights() throws {
        let folder = try Checkout.temporaryFolder()
        defer { try? FileManager.default.removeItem(at: folder) }
        _ = try folder.write(Data([0]), "pytorch_model.bin")
        #expect(
            checkpointError { _ = try ShardedSafetensors(folder: folder) }?.description
                == "\(folder.path): the weights are in pytorch_model.bin files, which can run code "
                + "when read; save the model as safetensors: in Python, "
                + "AutoModelForCausalLM.from_pretrained(folder).save_pretrained(folder)")
    }

    @Test func noWeights() throws {
        let folder = try Checkout.temporaryFolder()
        defer { try? FileManager.default.removeItem(at: folder) }
        #expect(
            checkpointError { _ = try ShardedSafetensors(folder: folder) }?.description
                == "\(folder.path): cannot be read: found neither model.safetensors nor "
                + "model.safetensors.index.json; download the weights of the model into this folder"
        )
    }
}
