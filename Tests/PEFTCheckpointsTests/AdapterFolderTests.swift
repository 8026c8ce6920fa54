import Foundation
import PEFTCheckpoints
import TestSupport
import Testing
import Torch

@Suite struct AdapterFolderTests {
    private static let expected: [String: [Int]] = {
        var shapes: [String: [Int]] = [:]
        for layer in 0..<2 {
            let prefix = "base_model.model.model.layers.\(layer).self_attn."
            shapes[prefix + "q_proj.lora_A.weight"] = [4, 32]
            shapes[prefix + "q_proj.lora_B.weight"] = [32, 4]
            shapes[prefix + "v_proj.lora_A.weight"] = [4, 32]
            shapes[prefix + "v_proj.lora_B.weight"] = [16, 4]
        }
        return shapes
    }()

    @Test(arguments: [("adapter", DType.float32), ("adapter-bfloat16", .bfloat16)])
    func readsAndRewritesWhatPEFTWrites(_ name: String, _ dtype: DType) throws {
        let folder = try Checkout.temporaryFolder()
        defer { try? FileManager.default.removeItem(at: folder) }
        let adapter = try AdapterFolder.read(fixture(name))
        let tensors = try adapter.tensors(expected: Self.expected)
        #expect(Set(tensors.keys) == Set(Self.expected.keys))
        #expect(tensors.values.allSatisfy { $0.dtype == dtype })
        let out = folder.appending(path: "new/adapter")
        try AdapterFolder.write(
            configuration: adapter.configuration, tensors: tensors, to: out)
        for file in ["adapter_model.safetensors", "adapter_config.json"] {
            #expect(
                try Data(contentsOf: out.appending(path: file))
                    == Data(contentsOf: fixture(name).appending(path: file)))
        }
        let names = try FileManager.default.contentsOfDirectory(atPath: out.path).sorted()
        #expect(names == ["README.md", "adapter_config.json", "adapter_model.safetensors"])
    }

    /// Training changes adapter tensors in place, so they must not lie over the mapped file.
    @Test func tensorsMayBeChanged() throws {
        let adapter = try AdapterFolder.read(fixture("adapter"))
        let tensors = try adapter.tensors(expected: Self.expected)
        for tensor in tensors.values { try tensor.fillInPlace(0) }
        let again = try adapter.tensors(expected: Self.expected)
        #expect(try again.values.contains { try $0.norm().item() > 0 })
    }

    @Test func modelCard() throws {
        let folder = try Checkout.temporaryFolder()
        defer { try? FileManager.default.removeItem(at: folder) }
        let configuration = Data(
            #"{"base_model_name_or_path": "it's/tiny", "peft_type": "LORA"}"#.utf8)
        try AdapterFolder.write(configuration: configuration, tensors: [:], to: folder)
        let card = folder.appending(path: "README.md")
        #expect(
            try String(contentsOf: card, encoding: .utf8) == """
                ---
                base_model: 'it''s/tiny'
                library_name: peft
                pipeline_tag: text-generation
                tags:
                - 'base_model:adapter:it''s/tiny'
                - lora
                ---

                # Adapter for it's/tiny

                Trained with swift-peft. In Python: \
                `PeftModel.from_pretrained(base_model, folder)`.

                """)
        try Data("mine".utf8).write(to: card)
        try AdapterFolder.write(configuration: configuration, tensors: [:], to: folder)
        #expect(try Data(contentsOf: card) == Data("mine".utf8))
    }

    @Test func everyDifferenceIsReportedAtOnce() throws {
        let adapter = try AdapterFolder.read(fixture("adapter"))
        var expected = Self.expected
        let prefix = "base_model.model.model.layers."
        expected[prefix + "0.self_attn.q_proj.lora_A.weight"] = [32, 4]
        expected[prefix + "1.self_attn.v_proj.lora_B.weight"] = [16, 8]
        expected[prefix + "1.self_attn.q_proj.lora_B.weight"] = nil
        expected[prefix + "2.self_attn.q_proj.lora_A.weight"] = [4, 32]
        #expect(
            checkpointError { _ = try adapter.tensors(expected: expected) }?.description == """
                \(adapter.weights.file.url.path): 4 problems with the stored tensors:
                  \(prefix)2.self_attn.q_proj.lora_A.weight: missing (expected [4, 32])
                  \(prefix)1.self_attn.q_proj.lora_B.weight: unexpected (file has [32, 4]); \
                nothing reads it
                  \(prefix)0.self_attn.q_proj.lora_A.weight: expected [32, 4], file has [4, 32]; \
                was the checkpoint transposed?
                  \(prefix)1.self_attn.v_proj.lora_B.weight: expected [16, 8], file has [16, 4]
                """)
    }

    @Test func copiesOfFrozenWeightsMayBeIgnored() throws {
        let folder = try Checkout.temporaryFolder()
        defer { try? FileManager.default.removeItem(at: folder) }
        let head = "base_model.model.lm_head."
        try AdapterFolder.write(
            configuration: Data("{}".utf8),
            tensors: [
                head + "lora_A.weight": try Tensor.ones([1, 2]),
                head + "base_layer.weight": try Tensor.ones([3, 2]),
            ], to: folder)
        let adapter = try AdapterFolder.read(folder)
        let expected = [head + "lora_A.weight": [1, 2]]
        let tensors = try adapter.tensors(
            expected: expected, ignoring: [head + "base_layer.weight": [3, 2]])
        #expect(Array(tensors.keys) == [head + "lora_A.weight"])
        #expect(
            checkpointError {
                _ = try adapter.tensors(
                    expected: expected, ignoring: [head + "base_layer.weight": [4, 2]])
            } != nil)
        #expect(checkpointError { _ = try adapter.tensors(expected: expected) } != nil)
    }

    @Test func aManyTimesRepeatedProblemIsListedInPart() throws {
        let adapter = try AdapterFolder.read(fixture("adapter"))
        var expected = Self.expected
        for index in 0..<25 { expected["x.\(index)"] = [1] }
        let error = try #require(
            checkpointError { _ = try adapter.tensors(expected: expected) })
        let lines = error.description.split(separator: "\n")
        #expect(lines.count == 22)
        #expect(lines.last == "  and 5 more of this kind")
    }

    // MARK: - Other folders

    @Test func noAdapter() {
        let url = fixture("llama-float32")
        #expect(
            checkpointError { _ = try AdapterFolder.read(url) }?.description
                == "\(url.path): cannot be read: found no adapter_config.json; "
                + "give the folder of an adapter as PEFT or `peft train` writes it")
        #expect(
            checkpointError { _ = try AdapterFolder.read(URL(filePath: "/nonexistent")) }?
                .description
                == "/nonexistent: cannot be read: no such file or folder; check the path")
    }

    @Test func pickledWeights() throws {
        let folder = try copy("adapter")
        defer { try? FileManager.default.removeItem(at: folder) }
        let weights = folder.appending(path: "adapter_model.safetensors")
        try FileManager.default.moveItem(
            at: weights, to: folder.appending(path: "adapter_model.bin"))
        #expect(
            checkpointError { _ = try AdapterFolder.read(folder) }?.description
                == "\(folder.path): the weights are in adapter_model.bin, which can run code when "
                + "read; save the adapter as safetensors: in Python, "
                + "PeftModel.from_pretrained(base, folder).save_pretrained(folder)")
        try FileManager.default.removeItem(at: folder.appending(path: "adapter_model.bin"))
        #expect(
            checkpointError { _ = try AdapterFolder.read(folder) }?.description
                == "\(folder.path): cannot be read: found no adapter_model.safetensors; "
                + "copy or download the adapter's weights into this folder")
    }

    @Test func aFileInTheWay() throws {
        let folder = try Checkout.temporaryFolder()
        defer { try? FileManager.default.removeItem(at: folder) }
        let url = try folder.write(Data(), "file")
        #expect(
            checkpointError {
                try AdapterFolder.write(configuration: Data(), tensors: [:], to: url)
            } != nil)
    }
}
