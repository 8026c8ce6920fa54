import Foundation
import PEFTCheckpoints
import PEFTLayers
import TestSupport
import Testing
import Torch

@Suite struct BaseModelFilesTests {
    /// Shapes of the fixtures' parameters by name.
    private func shapes() throws -> [String: [Int]] {
        let file = try SafetensorsFile(fixture("llama-float32/model.safetensors"))
        return Dictionary(uniqueKeysWithValues: file.entries.map { ($0.name, $0.shape) })
    }

    private func tensors(_ name: String) throws -> [String: Tensor] {
        let files = try BaseModelFiles.open(fixture(name))
        let expected = try shapes()
        try files.source.validate(expected: expected)
        var result: [String: Tensor] = [:]
        for (path, shape) in expected {
            result[path] = try files.source.tensor(at: path, shape: shape)
        }
        try files.source.verifyAllConsumed()
        return result
    }

    // MARK: - Weights

    /// float16 and bfloat16 files hold the float32 weights rounded once, GGUF files the same in another order of rows.
    @Test(arguments: [
        ("llama-float16", DType.float16), ("llama-bfloat16", .bfloat16),
        ("llama-F32.gguf", .float32), ("llama-F16.gguf", .float16), ("llama-BF16.gguf", .bfloat16),
    ])
    func plainWeightsAreExact(_ name: String, _ dtype: DType) throws {
        let stored = try tensors(name)
        for (path, weight) in try tensors("llama-float32") {
            let tensor = try #require(stored[path])
            let isNorm = tensor.shape.count == 1 && name.hasSuffix("gguf")
            #expect(tensor.dtype == (isNorm ? .float32 : dtype))
            #expect(try tensor.floats() == weight.to(tensor.dtype).floats(), "\(path)")
        }
    }

    @Test(arguments: ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0"])
    func blocksDecodeAsInGGUFTools(_ type: String) throws {
        let stored = try tensors("llama-\(type).gguf")
        let reference = try SafetensorsFile(fixture("gguf-decoded.safetensors"))
        var numCompared = 0
        for entry in reference.entries where entry.name.hasPrefix(type + ".") {
            let tensor = try #require(stored[String(entry.name.dropFirst(type.count + 1))])
            #expect(tensor.dtype == .float32)
            #expect(try tensor.floats() == reference.tensor(entry).floats(), "\(entry.name)")
            numCompared += 1
        }
        #expect(numCompared == 3)
    }

    /// What several processes read together is what one reads: cut anywhere, also within blocks, rows and heads.
    @Test(arguments: ["llama-float16", "llama-F32.gguf", "llama-Q4_1.gguf", "llama-Q8_0.gguf"])
    func partsOfATensorAreItsElements(_ name: String) throws {
        let source = try BaseModelFiles.open(fixture(name)).source
        for (path, whole) in try tensors(name) {
            let count = whole.numElements
            let cuts = [0, 0, 5 * count / 17, 11 * count / 17, count, count]
            let parts = try zip(cuts, cuts.dropFirst()).map {
                try source.elements($0..<$1, at: path, shape: whole.shape)
            }
            #expect(parts.map(\.shape) == zip(cuts, cuts.dropFirst()).map { [$1 - $0] })
            #expect(parts.allSatisfy { $0.dtype == whole.dtype }, "\(path)")
            #expect(try parts.flatMap { try $0.floats() } == whole.floats(), "\(path)")
        }
    }

    @Test func castingGivesOneElementType() throws {
        let files = try BaseModelFiles.open(fixture("llama-Q8_0.gguf"))
        let source = CastingSource(files.source, dtype: .bfloat16)
        let norm = try source.tensor(at: "model.norm.weight", shape: [32])
        #expect(norm.dtype == .bfloat16)
        let linear = try source.linearWeight(
            at: "model.layers.0.mlp.up_proj.weight", shape: [64, 32])
        #expect(linear.storageDescription == "bfloat16")
    }

    // MARK: - Description

    @Test func describesAFolder() throws {
        let files = try BaseModelFiles.open(fixture("llama-bfloat16"))
        #expect(files.format == .huggingFace)
        #expect(files.tokenizer == nil)
        #expect(files.sizeBytes == 16_000 + 15_304 + 13_096)
        #expect(
            try files.configuration
                == Data(contentsOf: fixture("llama-bfloat16").appending(path: "config.json")))
    }

    @Test func describesAGGUFFile() throws {
        let files = try BaseModelFiles.open(fixture("llama-Q4_0.gguf"))
        #expect(files.format == .gguf)
        guard case .gguf(let metadata) = files.tokenizer else {
            Issue.record("no tokenizer in the GGUF file")
            return
        }
        #expect(metadata.string("tokenizer.ggml.pre") == "smollm")
        #expect(
            String(decoding: files.configuration, as: UTF8.self) == """
                {
                  "architectures" : [
                    "LlamaForCausalLM"
                  ],
                  "attention_bias" : false,
                  "bos_token_id" : 1,
                  "eos_token_id" : 2,
                  "head_dim" : 8,
                  "hidden_act" : "silu",
                  "hidden_size" : 32,
                  "intermediate_size" : 64,
                  "max_position_embeddings" : 128,
                  "mlp_bias" : false,
                  "model_type" : "llama",
                  "num_attention_heads" : 4,
                  "num_hidden_layers" : 2,
                  "num_key_value_heads" : 2,
                  "pad_token_id" : 0,
                  "rms_norm_eps" : 1e-05,
                  "rope_theta" : 20000,
                  "tie_word_embeddings" : true,
                  "vocab_size" : 80
                }
                """)
    }

    // MARK: - Strictness

    @Test func everyDifferenceIsReportedBeforeReading() throws {
        let files = try BaseModelFiles.open(fixture("llama-float32"))
        var expected = try shapes()
        expected["model.layers.1.mlp.up_proj.weight"] = [32, 64]
        expected["model.norm.weight"] = nil
        expected["lm_head.weight"] = [80, 32]
        #expect(
            checkpointError { try files.source.validate(expected: expected) }?.description == """
                \(files.url.path): 3 problems with the stored tensors:
                  lm_head.weight: missing (expected [80, 32])
                  model.norm.weight: unexpected (file has [32]); nothing reads it
                  model.layers.1.mlp.up_proj.weight: expected [32, 64], file has [64, 32]; \
                was the checkpoint transposed?
                """)
    }

    @Test func unreadTensorsAreReported() throws {
        let files = try BaseModelFiles.open(fixture("llama-Q4_0.gguf"))
        let expected = try shapes()
        for (path, shape) in expected where path != "model.norm.weight" {
            _ = try files.source.tensor(at: path, shape: shape)
        }
        #expect(
            checkpointError { try files.source.verifyAllConsumed() }?.description == """
                \(files.url.path): 1 problem with the stored tensors:
                  model.norm.weight: unexpected (file has [32]); nothing reads it
                """)
    }

    @Test func aMissingTensor() throws {
        let files = try BaseModelFiles.open(fixture("llama-float32"))
        #expect(files.source.contains("model.norm.weight"))
        #expect(!files.source.contains("norm.weight"))
        #expect(
            checkpointError { _ = try files.source.tensor(at: "norm.weight", shape: [32]) }?
                .description == """
                    \(files.url.path): 1 problem with the stored tensors:
                      norm.weight: missing (expected [32])
                    """)
    }

    @Test func tensorsWithoutFloatingPointElements() throws {
        let folder = try model(["w": try Tensor([1, 2] as [UInt8], shape: [2])])
        defer { try? FileManager.default.removeItem(at: folder) }
        let files = try BaseModelFiles.open(folder)
        #expect(
            checkpointError { try files.source.validate(expected: ["w": [2]]) }?.description == """
                \(folder.path): 1 problem with the stored tensors:
                  w: expected F32, F16 or BF16, file has U8
                """)
    }

    /// A stored head is harmless only if it equals the embedding it is tied to.
    @Test(arguments: [true, false])
    func storedCopiesOfTiedHeads(_ isEqual: Bool) throws {
        let embedding = try Tensor.ones([3, 2])
        let folder = try model([
            "model.embed_tokens.weight": embedding,
            "lm_head.weight": isEqual ? embedding : try Tensor.zeros([3, 2]),
            "model.layers.0.self_attn.rotary_emb.inv_freq": try Tensor.ones([4]),
        ])
        defer { try? FileManager.default.removeItem(at: folder) }
        let source = try BaseModelFiles.open(folder).source
        let error = checkpointError {
            try source.validate(expected: ["model.embed_tokens.weight": [3, 2]])
        }
        #expect(
            error
                == (isEqual
                    ? nil
                    : .tensors(
                        path: folder.path,
                        problems: [.unexpected(name: "lm_head.weight", shape: [3, 2])])))
    }

    private func model(_ tensors: [String: Tensor]) throws -> URL {
        let folder = try Checkout.temporaryFolder()
        _ = try folder.write(Data("{}".utf8), "config.json")
        try SafetensorsWriter.write(
            tensors.map { SafetensorsTensor(name: $0.key, $0.value) },
            to: folder.appending(path: "model.safetensors"))
        return folder
    }

    // MARK: - Not a model

    @Test func nothingThere() {
        #expect(
            message(URL(filePath: "/nonexistent"))
                == "/nonexistent: cannot be read: no such file or folder; "
                + "give a GGUF file, or a folder with config.json and safetensors files")
    }

    @Test func otherFolders() throws {
        let adapter = fixture("adapter")
        #expect(
            message(adapter)
                == "\(adapter.path): cannot be read: found no config.json; it holds an adapter: "
                + "give it as the adapter, and its base as the model")
        let fixtures = fixture("")
        let first = fixtures.appending(path: "llama-BF16.gguf").path
        #expect(
            message(fixtures)
                == "\(fixtures.path): cannot be read: found no config.json; "
                + "it holds a GGUF file: give \(first)")
        let empty = try Checkout.temporaryFolder()
        defer { try? FileManager.default.removeItem(at: empty) }
        #expect(
            message(empty)
                == "\(empty.path): cannot be read: found no config.json; "
                + "looked for config.json with safetensors files beside it")
    }

    @Test func aSafetensorsFile() {
        let url = fixture("llama-float32/model.safetensors")
        #expect(
            message(url)
                == "\(url.path): a safetensors file alone is not a model; "
                + "give the folder that holds it, with config.json beside it")
    }

    @Test(arguments: [
        (
            "[",
            "not a JSON object that describes a model; "
                + "the file is damaged: copy or download it again"
        ),
        (
            #"{"quantization_config": {"quant_method": "bitsandbytes"}}"#,
            "the weights are quantized already (bitsandbytes); take the model in bfloat16, "
                + "float16 or float32: it is quantized while it is read"
        ),
    ])
    func configurations(_ text: String, _ expected: String) throws {
        let folder = try copy("llama-float32")
        defer { try? FileManager.default.removeItem(at: folder) }
        let url = try folder.write(Data(text.utf8), "config.json")
        #expect(message(folder) == "\(url.path): \(expected)")
    }

    private func message(_ url: URL) -> String? {
        checkpointError { _ = try BaseModelFiles.open(url) }?.description
    }
}
