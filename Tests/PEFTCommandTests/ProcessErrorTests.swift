import Foundation
import PEFT
import TestSupport
import Testing
import TrainingTestSupport

/// Bad input of every kind, as a user meets it: the message, the exit status, and nothing left behind.
@Suite(.serialized) struct ProcessErrorTests {
    private let workspace: Workspace

    init() throws {
        workspace = try Workspace()
        try workspace.write(rows: TinyRows.make(6))
    }

    /// Trains with these files, and expects to be refused.
    private func expectRefusal(
        _ message: String, model: String = TinyModel.tied, data: String? = nil,
        _ more: [String] = [], status: Int32 = 1,
        sourceLocation: SourceLocation = #_sourceLocation
    ) throws {
        let output = workspace.path("out")
        let result = try RunningProgram.run(
            [
                "train", "--model", model, "--data", data ?? workspace.path("rows.jsonl"),
                "--output-dir", output, "--max-steps", "2", "--threads", "1",
            ] + more)
        #expect(result.status == status, sourceLocation: sourceLocation)
        #expect(result.out == "", sourceLocation: sourceLocation)
        let lines = result.err.split(separator: "\n")
        let found = lines.filter { $0.hasPrefix("peft: error: ") }.joined(separator: "\n")
        let expected = message.split(separator: "\n").map { "peft: error: \($0)" }
            .joined(separator: "\n")
        #expect(found == expected, sourceLocation: sourceLocation)
        let left = (try? RunFiles.names(in: output)) ?? []
        #expect(left == [], sourceLocation: sourceLocation)
    }

    /// A copy of a model of the fixtures, to be damaged.
    private func copy(_ model: String = TinyModel.tied) throws -> String {
        let path = workspace.path("model")
        try FileManager.default.createDirectory(
            atPath: path, withIntermediateDirectories: false)
        for name in ["config.json", "model.safetensors"] {
            try FileManager.default.copyItem(
                atPath: "\(model)/\(name)", toPath: "\(path)/\(name)")
        }
        return path
    }

    // MARK: - Devices

    @Test(.enabled(if: Device.numCUDADevices == 0)) func missingGPU() throws {
        let error = #expect(throws: DeviceError.self) { try DeviceChoice.cuda.device() }
        try expectRefusal(try #require(error).description, ["--device", "cuda"])
    }

    // MARK: - Models

    @Test func missingModel() throws {
        try expectRefusal(
            "/no/such/model: cannot be read: no such file or folder; give a GGUF file, or a folder "
                + "with config.json and safetensors files", model: "/no/such/model")
    }

    @Test func truncatedSafetensors() throws {
        let model = try copy()
        let file = model + "/model.safetensors"
        let bytes = try RunFiles.bytes(file)
        try bytes.prefix(20_000).write(to: URL(filePath: file))
        try expectRefusal(
            "\(file): truncated: expected \(bytes.count) bytes, found 20000; copy or download the "
                + "file again", model: model)
    }

    @Test(arguments: [("llama-Q4_0", 10_000), ("llama-F32", 80_000)])
    func truncatedGGUF(name: String, count: Int) throws {
        let bytes = try RunFiles.bytes(Checkout.fixture("checkpoints/\(name).gguf").path)
        let file = workspace.url.appending(path: "model.gguf")
        try bytes.prefix(count).write(to: file)
        try expectRefusal(
            "\(file.path): truncated: expected \(bytes.count) bytes, found \(count); copy or "
                + "download the file again", model: file.path)
    }

    @Test func ggufThatEndsInItsHeader() throws {
        let bytes = try RunFiles.bytes(Checkout.fixture("checkpoints/llama-Q4_0.gguf").path)
        let file = workspace.url.appending(path: "model.gguf")
        try bytes.prefix(100).write(to: file)
        try expectRefusal(
            "\(file.path): 20 tensors announced, but only 84 bytes follow; the file is damaged or "
                + "cut off: copy or download it again", model: file.path)
    }

    @Test func wrongShapes() throws {
        let model = try copy()
        let config = model + "/config.json"
        let text = try String(contentsOfFile: config, encoding: .utf8)
        try workspace.write(
            text.replacing("\"vocab_size\": 50", with: "\"vocab_size\": 51"),
            as: "model/config.json")
        try expectRefusal(
            """
            \(model): 1 problem with the stored tensors:
              model.embed_tokens.weight: expected [51, 24], file has [50, 24]
            """, model: model)
    }

    @Test func unknownFamily() throws {
        let model = try copy()
        try workspace.write("{\"model_type\": \"mamba\"}", as: "model/config.json")
        try expectRefusal(
            "config.json: model_type: found \"mamba\", but only gemma2, gemma3_text, gpt2, gpt_neox, "
                + "granite, llama, ministral, mistral, mixtral, olmo2, olmoe, phi3, qwen2, qwen3, qwen3_moe, "
                + "smollm3 can be built; choose a model of these families", model: model)
    }

    @Test func adapterThatIsNotThere() throws {
        try expectRefusal(
            "/no/such/adapter: cannot be read: no such file or folder; check the path",
            ["--adapter", "/no/such/adapter"])
    }

    @Test func typoInTargets() throws {
        try expectRefusal(
            """
            PEFT-T001: The adapter configuration does not fit the model:
            - target_modules "q_prj": matches no linear layer; the nearest name is "q_proj"
            - target_modules "upproj": matches no linear layer; the nearest name is "up_proj"
            Correct or remove each: it would be without effect, silently.
            """, ["--target-modules", "q_prj", "v_proj", "upproj"])
    }

    @Test func adapterWithOtherTensors() throws {
        let adapter = Checkout.fixture("checkpoints/adapter").path
        try FileManager.default.createDirectory(
            atPath: workspace.path("adapter"), withIntermediateDirectories: false)
        for name in ["adapter_config.json", "adapter_model.safetensors"] {
            try FileManager.default.copyItem(
                atPath: "\(adapter)/\(name)", toPath: workspace.path("adapter/\(name)"))
        }
        let file = workspace.url.appending(path: "adapter/adapter_model.safetensors")
        let stored = try SafetensorsFile(file)
        let prefix = "base_model.model.model.layers.0.self_attn."
        let tensors = try stored.entries.compactMap { entry -> SafetensorsTensor? in
            guard entry.name != prefix + "q_proj.lora_A.weight" else { return nil }
            let tensor = try stored.tensor(entry).clone()
            let value =
                entry.name == prefix + "v_proj.lora_B.weight"
                ? try Tensor.zeros([17, 4]) : tensor
            return SafetensorsTensor(name: entry.name, value)
        }
        try SafetensorsWriter.write(tensors, to: file)
        try expectRefusal(
            """
            PEFT-A003: \(file.path): 2 problems with the stored tensors:
              \(prefix)q_proj.lora_A.weight: missing (expected [4, 32])
              \(prefix)v_proj.lora_B.weight: expected [16, 4], file has [17, 4]
            """, model: Checkout.fixture("checkpoints/llama-float32").path,
            ["--adapter", workspace.path("adapter")])
    }

    @Test func adapterOfAnotherBase() throws {
        let rows = workspace.path("rows.jsonl")
        let adapter = workspace.path("adapter")
        let trained = try RunningProgram.run([
            "train", "--model", TinyModel.tied, "--data", rows, "--output-dir", adapter,
            "--max-steps", "1", "--threads", "1",
        ])
        #expect(trained.status == 0, "\(trained.err)")
        let score = [
            "score", "--model", TinyModel.grouped, "--adapter", adapter, "--data", rows,
            "--threads", "1",
        ]
        let refused = try RunningProgram.run(score)
        #expect(refused.status == 1)
        #expect(
            refused.err.hasPrefix(
                "peft: error: PEFT-A004: \(adapter): the adapter was trained on another base model: "
                    + "expected "), "\(refused.err)")
        // Without the check, the shapes tell the bases of this test apart too.
        let forced = try RunningProgram.run(score + ["--ignore-base-fingerprint"])
        #expect(forced.status == 1)
        #expect(forced.err.hasPrefix("peft: error: PEFT-A003: "), "\(forced.err)")
    }

    @Test func warmUpThatNeverEnds() throws {
        let output = workspace.path("out")
        let result = try RunningProgram.run([
            "train", "--model", TinyModel.tied, "--data", workspace.path("rows.jsonl"),
            "--output-dir", output, "--max-steps", "1", "--warmup-steps", "9", "--threads", "1",
        ])
        #expect(result.status == 1)
        #expect(
            result.err.contains(
                "\npeft: error: PEFT-A005: \(output): after 1 step the adapter still changes "),
            "\(result.err)")
        #expect(try RunFiles.names(in: output).contains("checkpoint-1"))
    }

    // MARK: - Rows

    @Test func missingRows() throws {
        try expectRefusal(
            "/no/such.jsonl: cannot be read: there is no such file", data: "/no/such.jsonl")
    }

    @Test(arguments: ["", "\n\n  \n"])
    func emptyRows(text: String) throws {
        let file = try workspace.write(text, as: "empty.jsonl")
        try expectRefusal(
            "\(file): expected at least one row (one JSON object a line), found none", data: file)
    }

    @Test func rowTooLong() throws {
        let file = workspace.path("rows.jsonl")
        try expectRefusal(
            "PEFT-L003: \(file):2: 12 tokens, max_length is 11 (3 rows are too long, the longest has "
                + "14); raise max_length to 14, shorten or remove what is longer, or set "
                + "truncation_mode to keep_start or keep_end", ["--max-length", "11"])
    }

    @Test func rowWithoutTargets() throws {
        let file = try workspace.write(rows: [[1, 2], [3]], as: "short.jsonl")
        let result = try RunningProgram.run(
            ["score", "--model", TinyModel.tied, "--data", file, "--threads", "1"])
        #expect(result.status == 1)
        #expect(result.err.hasPrefix("peft: error: PEFT-L001: \(file):2: "), "\(result.err)")
    }

    @Test func tokenOutsideOfTheVocabulary() throws {
        let file = try workspace.write(rows: [[1, 2], [3, 50]], as: "high.jsonl")
        try expectRefusal(
            "PEFT-L004: row 2: token 50 is not in the model's vocabulary, 0..<50; was another "
                + "tokenizer used?", data: file)
    }

    @Test func textWithoutTokenizer() throws {
        let file = try workspace.write("{\"text\": \"Hello\"}\n", as: "text.jsonl")
        try expectRefusal(
            "\(file):1: a row of text needs a tokenizer, and the model has none; add tokenizer.json "
                + "to the model, or write rows of {\"tokens\"}", data: file)
    }

    @Test func brokenRow() throws {
        let file = try workspace.write("{\"tokens\": [1, 2]}\n{\"tokens\": [1,\n", as: "b.jsonl")
        let result = try RunningProgram.run(
            ["score", "--model", TinyModel.tied, "--data", file])
        #expect(result.status == 1)
        #expect(result.err.hasPrefix("peft: error: \(file):2: invalid JSON at column 15: "))
    }

    // MARK: - Flags and config files

    @Test func badFlags() throws {
        try expectRefusal(
            """
            unknown option '--lora-rank'; did you mean '--lora-r'?
            --lora-alpha: expected a number, found 'high'
            --quantize: expected one of nf4, fp4, none, found 'int8'
            """, ["--lora-rank", "4", "--lora-alpha", "high", "--quantize", "int8"], status: 2)
    }

    @Test func unknownKeysInAConfigFile() throws {
        let file = try workspace.write(
            "learning_rat: 1\nlora_r: 4\npackin: true\n", as: "run.yaml")
        try expectRefusal(
            """
            \(file):1: unknown key 'learning_rat'; did you mean 'learning_rate'?
            \(file):3: unknown key 'packin'; did you mean 'packing'?
            """, ["--config", file])
    }

    @Test func missingConfigFile() throws {
        try expectRefusal(
            "/no/such.yaml: cannot be read: no such file or directory",
            ["--config", "/no/such.yaml"])
    }

    // MARK: - Output

    @Test func outputThatIsNoFolder() throws {
        let file = try workspace.write("", as: "file")
        let result = try RunningProgram.run([
            "train", "--model", TinyModel.tied, "--data", workspace.path("rows.jsonl"),
            "--output-dir", file,
        ])
        #expect(result.status == 1)
        #expect(result.err.hasPrefix("peft: error: \(file): cannot be written: "), "\(result.err)")
        #expect(try RunFiles.bytes(file).isEmpty)
    }

    @Test func scoreThatCannotBeWritten() throws {
        let rows = try workspace.write(rows: TinyRows.make(40))
        let score = ["score", "--model", TinyModel.tied, "--data", rows, "--threads", "1"]
        let before = try RunFiles.names(in: workspace.url.path)
        let logits = workspace.path("logits.safetensors")
        let large = try RunningProgram.run(score + ["--logits", logits], after: "ulimit -f 8")
        #expect(large.status == 1)
        #expect(
            large.err
                == "peft: error: \(logits): cannot be written: the file would exceed the size "
                + "limit of this process; raise `ulimit -f`\n")
        let json = workspace.path("score.json")
        let small = try RunningProgram.run(score + ["--json", json], after: "ulimit -f 0")
        #expect(small.status == 1)
        #expect(try RunFiles.names(in: workspace.url.path) == before, "nothing is left behind")
        let unheard = try RunningProgram.run(score + ["--json", "-"], after: "exec > /dev/full")
        #expect(unheard.status == 1)
        #expect(
            unheard.err == "peft: error: standard output: cannot be written: no space left on the "
                + "disk; free some space or write to another disk\n")
        let nowhere = try RunningProgram.run(score + ["--json", "/no/such/score.json"])
        #expect(nowhere.status == 1)
        #expect(
            nowhere.err
                == "peft: error: /no/such/score.json: cannot be written: its folder does not "
                + "exist; create the folder first\n")
        let device = try RunningProgram.run(score + ["--json", "/dev/null"])
        #expect(device.status == 1)
        #expect(
            device.err
                == "peft: error: /dev/null: cannot be written: it is a device or a pipe; give "
                + "the path of a file\n")
    }
}
