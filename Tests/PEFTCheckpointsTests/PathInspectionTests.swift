import Foundation
import PEFTAdapters
import PEFTCheckpoints
import TestSupport
import Testing

@Suite struct PathInspectionTests {
    @Test func modelFolder() throws {
        let inspection = try PathInspection(fixture("llama-bfloat16"))
        #expect(inspection.kind == .model)
        #expect(inspection.files.count == 5)
        #expect(inspection.tensors.count == 20)
        #expect(inspection.numElements == 21_152)
        #expect(Set(inspection.tensors.map(\.dtype)) == ["BF16"])
        #expect(inspection.tensors.reduce(0) { $0 + $1.sizeBytes } == 2 * 21_152)
        #expect(inspection.metadata == ["format": .string("pt")])
        guard case .object(let config) = inspection.documents["config.json"] else {
            Issue.record("config.json is not an object")
            return
        }
        #expect(config["hidden_size"] == .int(32))
        #expect(Array(inspection.documents.keys) == ["config.json"])
    }

    @Test func ggufFile() throws {
        let inspection = try PathInspection(fixture("llama-Q5_1.gguf"))
        #expect(inspection.kind == .gguf)
        #expect(inspection.numElements == 21_152)
        #expect(Set(inspection.tensors.map(\.dtype)) == ["F32", "Q5_1"])
        #expect(inspection.metadata["tokenizer.ggml.tokens"] == .string("80 elements"))
        #expect(
            inspection.metadata["tokenizer.ggml.merges"]
                == .array([.string("a b"), .string("ab c")]))
        #expect(inspection.metadata["llama.rope.freq_base"] == .double(20_000))
        guard case .object(let config) = inspection.documents["config.json"] else {
            Issue.record("config.json is not an object")
            return
        }
        #expect(config["num_key_value_heads"] == .int(2))
    }

    @Test func adapterFolder() throws {
        let inspection = try PathInspection(fixture("adapter"))
        #expect(inspection.kind == .adapter)
        #expect(inspection.tensors.count == 8)
        #expect(inspection.numElements == 2 * (128 + 128 + 128 + 64))
        #expect(
            inspection.files.map(\.name)
                == ["README.md", "adapter_config.json", "adapter_model.safetensors"])
    }

    @Test func checkpointFolder() throws {
        let run = try Checkout.temporaryFolder()
        defer { try? FileManager.default.removeItem(at: run) }
        let adapter = fixture("adapter/adapter_model.safetensors")
        let written = try CheckpointFolder.write(step: 7, in: run) {
            _ = try $0.write(try Data(contentsOf: adapter), "adapter_model.safetensors")
            _ = try $0.write(try Data(contentsOf: adapter), "optimizer.safetensors")
            _ = try $0.write(Data(#"{"step": 7}"#.utf8), "run_state.json")
        }
        let inspection = try PathInspection(written.url)
        #expect(inspection.kind == .checkpoint)
        #expect(inspection.documents == ["run_state.json": .object(["step": .int(7)])])
        #expect(
            Set(inspection.tensors.map(\.file))
                == ["adapter_model.safetensors", "optimizer.safetensors"])
        #expect(inspection.tensors.count == 16)
    }

    @Test func safetensorsFile() throws {
        let inspection = try PathInspection(fixture("dtypes.safetensors"))
        #expect(inspection.kind == .safetensors)
        #expect(inspection.tensors.first { $0.name == "z.4" }?.dtype == "F8_E4M3")
        #expect(inspection.tensors.first { $0.name == "scalar" }?.shape == [])
    }

    @Test func isJSON() throws {
        let inspection = try PathInspection(fixture("llama-Q4_0.gguf"))
        let encoder = JSONEncoder()
        encoder.outputFormatting = .sortedKeys
        let data = try encoder.encode(inspection)
        let decoded = try JSONDecoder().decode(PathInspection.self, from: data)
        #expect(try encoder.encode(decoded) == data)
        #expect(decoded.tensors == inspection.tensors)
    }

    @Test func nothingKnown() throws {
        let folder = try Checkout.temporaryFolder()
        defer { try? FileManager.default.removeItem(at: folder) }
        #expect(
            checkpointError { _ = try PathInspection(folder) }?.description
                == "\(folder.path): cannot be read: found neither config.json nor "
                + "adapter_config.json; give a model folder, a GGUF file, an adapter folder or a "
                + "checkpoint folder")
        try CheckpointFolder.write(step: 3, in: folder) { _ in }
        #expect(
            checkpointError { _ = try PathInspection(folder) }?.description
                == "\(folder.path): cannot be read: found neither config.json nor "
                + "adapter_config.json; it holds checkpoints: give \(folder.path)/checkpoint-3")
        let text = try folder.write(Data("Hello, world".utf8), "text")
        #expect(
            checkpointError { _ = try PathInspection(text) }?.description
                == "\(text.path): not a GGUF file: it does not begin with \"GGUF\"; "
                + "check that this is the right file, or download it again")
        _ = try folder.write(Data("{".utf8), "adapter_config.json")
        #expect(
            checkpointError { _ = try PathInspection(folder) }?.description
                == "\(folder.path)/adapter_config.json: not valid JSON; "
                + "the file is damaged: copy or download it again")
    }
}
