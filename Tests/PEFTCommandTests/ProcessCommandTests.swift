import Foundation
import PEFT
import TestSupport
import Testing
import TrainingTestSupport

/// The other commands as processes, on tiny models.
@Suite(.serialized) struct ProcessCommandTests {
    private let workspace: Workspace

    init() throws { workspace = try Workspace() }

    /// Runs a command that must succeed, and gives its standard output.
    private func run(
        _ arguments: String..., input: String = "",
        sourceLocation: SourceLocation = #_sourceLocation
    ) throws -> String {
        let result = try RunningProgram.run(arguments, input: input)
        #expect(result.status == 0, "\(result.err)", sourceLocation: sourceLocation)
        return result.out
    }

    private func object(_ text: String) throws -> JSONObject {
        try #require(try JSONValue(parsing: text).objectValue)
    }

    private func chatModel() throws -> String {
        try TinyModel.write(to: workspace.url.appending(path: "chat"))
    }

    /// Trains one step, and gives the adapter's folder.
    private func trainedAdapter(model: String = TinyModel.tied, steps: Int = 1) throws -> String {
        let output = workspace.path("adapter")
        _ = try run(
            "train", "--model", model, "--data",
            try workspace.write(rows: TinyRows.make(4), as: "train.jsonl"), "--output-dir", output,
            "--dtype", "float32", "--no-shuffle", "--max-steps", "\(steps)", "--logging-steps",
            "1", "--lora-r", "2", "--threads", "1")
        return output
    }

    // MARK: - Help

    @Test func versionNamesOursAndLibtorchs() throws {
        let libtorch = TorchRuntime.headerVersion
        #expect(
            try run("--version") == "swift-peft \(PEFTVersion.current) (libtorch \(libtorch))\n")
    }

    @Test func helpIsThere() throws {
        let overview = try run("--help")
        for name in ["train", "score", "generate", "inspect", "tokenize"] {
            #expect(overview.contains("  \(name) "))
            #expect(try run(name, "--help").hasPrefix("usage: peft \(name) "))
        }
    }

    @Test func wrongUseHasItsOwnStatus() throws {
        for arguments in [[], ["trian"], ["score", "--modle", "m"]] {
            let result = try RunningProgram.run(arguments)
            #expect(result.status == 2)
            #expect(result.out == "")
            #expect(result.err != "")
        }
    }

    // MARK: - Score

    @Test func scoreIsTheLossOfTheFirstTrainingStep() throws {
        let adapter = try trainedAdapter()
        let loss = try #require(try RunFiles.metric("loss", in: adapter).first)
        let file = workspace.path("score.json")
        let text = try run(
            "score", "--model", TinyModel.tied, "--data", workspace.path("train.jsonl"), "--dtype",
            "float32", "--json", file, "--threads", "1")
        let score = try object(String(contentsOfFile: file, encoding: .utf8))
        #expect(score.keys == ["loss", "perplexity", "num_target_tokens", "rows"])
        let found = try #require(score["loss"]?.doubleValue)
        #expect(abs(found - loss) <= Tolerance.trainingLoss * loss)
        #expect(score["perplexity"]?.doubleValue == exp(found))
        #expect(text.hasPrefix("loss "))
        let rows = try #require(score["rows"]?.arrayValue).compactMap(\.objectValue)
        #expect(rows.allSatisfy { $0.keys == ["num_target_tokens", "nll"] })
        #expect(
            rows.map { $0["num_target_tokens"] } == TinyRows.make(4).map { .int($0.count - 1) })
        let total = rows.compactMap { $0["nll"]?.doubleValue }.reduce(0, +)
        let count = try #require(score["num_target_tokens"]?.intValue)
        #expect(abs(total / Double(count) - found) <= 1e-12 * found)

        let withAdapter = try object(
            run(
                "score", "--model", TinyModel.tied, "--adapter", adapter, "--data",
                workspace.path("train.jsonl"), "--dtype", "float32", "--json", "-"))
        #expect(try #require(withAdapter["loss"]?.doubleValue) < found)
    }

    @Test func logitsAreThoseOfTransformers() throws {
        let expected = try SafetensorsFile(
            Checkout.fixture("models/grouped/expected.safetensors"))
        let rows = try [0, 2].map { index in
            try expected.tensor(try #require(expected.entry("tokens.\(index)"))).int64s().map(
                Int.init)
        }
        let file = workspace.path("logits.safetensors")
        _ = try run(
            "score", "--model", TinyModel.grouped, "--quantize", "none", "--dtype", "float32",
            "--data", try workspace.write(rows: rows), "--logits", file, "--threads", "1")
        let found = try SafetensorsFile(URL(filePath: file))
        #expect(found.entries.map(\.name).sorted() == ["logits.0", "logits.1"])
        for (row, index) in [(0, 0), (1, 2)] {
            let logits = try found.tensor(try #require(found.entry("logits.\(row)")))
            let reference = try expected.tensor(try #require(expected.entry("logits.\(index)")))
            #expect(logits.shape == [rows[row].count, 61])
            #expect(logits.dtype == .float32)
            #expect(
                Tolerance.maxError(try logits.floats(), try reference.floats())
                    <= Tolerance.logits)
        }
    }

    // MARK: - Generate

    @Test func generationIsRepeatable() throws {
        let model = try chatModel()
        let greedy = [
            "generate", "--model", model, "--prompt", "the house", "--max-new-tokens", "12",
            "--threads", "1",
        ]
        let text = try RunningProgram.run(greedy).out
        #expect(try RunningProgram.run(greedy).out == text)
        let report = try object(RunningProgram.run(greedy + ["--json"]).out)
        #expect(
            report.keys == [
                "prompt", "text", "num_prompt_tokens", "num_new_tokens", "stop_reason",
                "prompt_tokens_per_second", "tokens_per_second",
            ])
        #expect(report["prompt"] == "the house")
        #expect(report["text"]?.stringValue.map { $0 + "\n" } == text)
        #expect((1...12).contains(report["num_new_tokens"]?.intValue ?? 0))
        let chat = try object(RunningProgram.run(greedy + ["--json", "--chat"]).out)
        #expect(
            (chat["num_prompt_tokens"]?.intValue ?? 0)
                > (report["num_prompt_tokens"]?.intValue ?? 0))

        let sampled = greedy + ["--temperature", "2", "--top-p", "0.9", "--seed"]
        let first = try RunningProgram.run(sampled + ["1"]).out
        #expect(try RunningProgram.run(sampled + ["1"]).out == first)
        #expect(try RunningProgram.run(sampled + ["2"]).out != first)
    }

    @Test func modelWithoutTokenizerCannotGenerate() throws {
        let result = try RunningProgram.run(
            ["generate", "--model", TinyModel.tied, "--prompt", "Hello"])
        #expect(result.status == 1)
        #expect(
            result.err == "peft: error: \(TinyModel.tied): no tokenizer, which text needs; add "
                + "tokenizer.json, or use rows of tokens\n")
    }

    // MARK: - Tokenize

    @Test func tokenizePrintsALineOfTokensForEachLine() throws {
        let model = try chatModel()
        let tokenizer = try Tokenizer.load(folder: Checkout.fixture("data/tokenizer"))
        let lines = ["Hello, world", "", "naïve <|im_end|> 日本"]
        let expected = try lines.map { line in
            "[" + (try tokenizer.encode(line).ids.map(String.init).joined(separator: ", ")) + "]\n"
        }.joined()
        let text = lines.joined(separator: "\n") + "\n"
        let file = try workspace.write(text, as: "lines.txt")
        #expect(try run("tokenize", "--model", model, file) == expected)
        #expect(try run("tokenize", "--model", model, "-", input: text) == expected)
    }

    @Test func tokenizeRendersConversations() throws {
        let model = try chatModel()
        let tokenizer = try Tokenizer.load(folder: Checkout.fixture("data/tokenizer"))
        let row =
            #"{"messages": [{"role": "system", "content": "Be kind."}, "#
            + #"{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi"}]}"#
        let rendered = """
            <|im_start|>system
            Be kind.<|im_end|>
            <|im_start|>user
            Hello<|im_end|>
            <|im_start|>assistant
            Hi<|im_end|>

            """
        let ids = try tokenizer.encode(rendered, addSpecialTokens: false).ids
        let found = try run("tokenize", "--model", model, "--chat", "-", input: row + "\n")
        #expect(found == "[" + ids.map(String.init).joined(separator: ", ") + "]\n")
        let wrong = try RunningProgram.run(
            ["tokenize", "--model", model, "--chat", "-"], input: row + "\nHello\n")
        #expect(wrong.status == 1)
        #expect(wrong.err.hasPrefix("peft: error: -:2: "), "\(wrong.err)")
    }

    // MARK: - Inspect

    @Test func inspectTellsWhatIsThere() throws {
        let model = try chatModel()
        let adapter = try trainedAdapter()
        let gguf = Checkout.fixture("checkpoints/llama-Q4_0.gguf").path
        let kinds = [
            (model, "Hugging Face model", 20), (gguf, "GGUF model", 20),
            (adapter, "adapter", 28), (adapter + "/checkpoint-1", "checkpoint of a run", 84),
            (model + "/model.safetensors", "safetensors file", 20),
        ]
        for (path, kind, numTensors) in kinds {
            let text = try run("inspect", path)
            #expect(text.hasPrefix("\(path): \(kind)\n"), "\(text.prefix(200))")
            let report = try object(run("inspect", path, "--json"))
            #expect(report.keys == ["path", "kind", "facts", "tensors"])
            #expect(report["kind"] == .string(kind))
            #expect(report["tensors"]?.arrayValue?.count == numTensors, "\(path)")
            let facts = try #require(report["facts"]?.objectValue)
            #expect(facts["num_tensors"] == .int(numTensors))
            #expect((facts["num_parameters"]?.intValue ?? 0) > 0)
            let tensor = try #require(report["tensors"]?.arrayValue?.first?.objectValue)
            #expect(tensor.keys == ["name", "dtype", "shape"])
        }
        let facts = try #require(
            try object(run("inspect", adapter, "--json"))["facts"]?.objectValue)
        #expect(facts["adapter_config.json"]?.objectValue?["r"] == 2)
        let nothing = try RunningProgram.run(["inspect", workspace.path("nothing")])
        #expect(nothing.status == 1)
        #expect(
            nothing.err
                == "peft: error: \(workspace.path("nothing")): cannot be read: no such file "
                + "or folder; check the path\n")
    }
}
