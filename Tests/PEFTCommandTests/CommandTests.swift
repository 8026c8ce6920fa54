import Foundation
import PEFT
import PEFTCommand
import PEFTTraining
import TestSupport
import Testing

@Suite struct CommandTests {
    @Test(arguments: [["--version"], ["version"]])
    func versionsAreNamed(arguments: [String]) {
        let (status, output) = run(arguments)
        #expect(status == 0)
        #expect(output.out == "swift-peft 0.0.0 (libtorch 0.0.0)\n")
    }

    @Test func withoutArgumentsTheOverviewIsAnError() {
        let (status, output) = run([])
        #expect(status == 2)
        #expect(output.out == "")
        #expect(output.err == HelpText.overview())
    }

    @Test(arguments: [["--help"], ["-h"], ["help"]])
    func theOverviewIsAvailable(arguments: [String]) {
        let (status, output) = run(arguments)
        #expect(status == 0)
        #expect(output.out == HelpText.overview())
        for name in CommandName.allCases { #expect(output.out.contains("  \(name.rawValue) ")) }
    }

    @Test(arguments: CommandName.allCases)
    func everyCommandHasTheSameHelpTwice(name: CommandName) {
        let (status, output) = run(["help", name.rawValue])
        #expect(status == 0)
        #expect(output.out.hasPrefix("usage: peft \(name.rawValue) "))
        #expect(output.out.contains("\nExamples:\n"))
        for flag in [["--help"], ["-h"], ["--unknown", "--help"]] {
            #expect(run([name.rawValue] + flag).output.out == output.out)
        }
    }

    /// Every example of the help texts is a command line that its command accepts.
    @Test(arguments: CommandName.allCases)
    func examplesAreAccepted(name: CommandName) throws {
        let folder = try Checkout.temporaryFolder()
        defer { try? FileManager.default.removeItem(at: folder) }
        let config = folder.appending(path: "run.yaml")
        try Data("model: m\ndata: d\noutput_dir: o\n".utf8).write(to: config)
        let text = name.examples.joined(separator: "\n").replacing("\\\n", with: "")
        for line in text.split(separator: "\n") {
            let command = line.hasPrefix("peft") ? line : afterPipe(line)
            let files = name == .tokenize ? ["corpus.txt", "-"] : ["run.yaml"]
            let arguments = shellWords(command).dropFirst().map {
                files.contains($0) ? config.path(percentEncoded: false) : $0
            }
            let (status, output) = run(Array(arguments))
            #expect(status == 0, "\(line): \(output.err)")
        }
    }

    private func afterPipe(_ line: Substring) -> Substring {
        line.firstIndex(of: "|").map { line[line.index($0, offsetBy: 2)...] } ?? line
    }

    private func shellWords(_ line: Substring) -> [String] {
        line.split(separator: "'", omittingEmptySubsequences: false).enumerated().flatMap {
            index, part in
            index % 2 == 1 ? [String(part)] : part.split(separator: " ").map(String.init)
        }
    }

    @Test(
        arguments: [
            (["trian"], "unknown command 'trian'; did you mean 'train'?"),
            (["help", "scroe"], "unknown command 'scroe'; did you mean 'score'?"),
            (["frobnicate"], "unknown command 'frobnicate'"),
            (["--frobnicate"], "unknown option '--frobnicate'"),
        ])
    func unknownCommandsAreWrongUse(arguments: [String], message: String) {
        let (status, output) = run(arguments)
        #expect(status == 2)
        #expect(output.err == "peft: error: \(message)\n'peft --help' shows the commands.\n")
    }

    @Test func wrongFlagsAreWrongUse() {
        let (status, output) = run(["inspect", "--jsn", "path"])
        #expect(status == 2)
        #expect(
            output.err == """
                peft: error: unknown option '--jsn'; did you mean '--json'?
                peft: error: path is required (what to inspect): give PATH
                'peft inspect --help' shows the options.

                """)
    }

    @Test func aBadConfigFileIsAnErrorAndNotWrongUse() throws {
        let folder = try Checkout.temporaryFolder()
        defer { try? FileManager.default.removeItem(at: folder) }
        let file = folder.appending(path: "run.yaml").path(percentEncoded: false)
        try Data("model: m\ndata: d\noutput_dir: o\nlora_rank: 3\n".utf8).write(
            to: URL(filePath: file))
        let (status, output) = run(["train", "--config", file])
        #expect(status == 1)
        #expect(
            output.err
                == "peft: error: \(file):4: unknown key 'lora_rank'; did you mean 'lora_r'?\n")
        let missing = run(["train", "--config", "/no/such.yaml"])
        #expect(missing.status == 1)
        #expect(
            missing.output.err
                == "peft: error: /no/such.yaml: cannot be read: no such file or directory\n")
    }

    @Test func errorsOfTheLibraryArePrintedWithTheirPrefix() {
        struct Failure: Error, CustomStringConvertible { var description = "first\nsecond" }
        let calls = Calls()
        calls.error = Failure()
        let (status, output) = run(
            ["train", "--model", "m", "--data", "d", "--output-dir", "o"], calls: calls)
        #expect(status == 1)
        #expect(output.err == "peft: error: first\npeft: error: second\n")
    }

    @Test func errorsWithACodeBeginWithItOnce() {
        func message(_ error: any Error) -> String {
            let calls = Calls()
            calls.error = error
            return run(["train", "--model", "m", "--data", "d", "--output-dir", "o"], calls: calls)
                .output.err
        }
        #expect(
            message(Diagnosis(.otherBase, at: "out", "why", remedy: "do this"))
                == "peft: error: PEFT-A004: out: why; do this\n")
        #expect(
            message(AdapterError.alreadyAdapted(["a"])) == """
                peft: error: PEFT-T002: An adapter is attached already:
                peft: error: - a
                peft: error: Attach one adapter to a model; load the model again for another one.

                """)
        #expect(
            message(DatasetProblem.tooLong(length: 9, maxLength: 8, numRows: 1, longest: 9))
                .hasPrefix("peft: error: PEFT-L003: 9 tokens, "))
    }

    @Test func printConfigGivesAFileThatGivesTheSameConfig() throws {
        let folder = try Checkout.temporaryFolder()
        defer { try? FileManager.default.removeItem(at: folder) }
        let flags = [
            "train", "--model", "m x", "--data", "d", "--output-dir", "o", "--lora-r", "4",
            "--no-shuffle", "--target-modules", "q_proj", "v_proj",
        ]
        let printed = run(flags + ["--print-config"])
        #expect(printed.status == 0)
        let file = folder.appending(path: "run.yaml")
        try Data(printed.output.out.utf8).write(to: file)
        let (fromFlags, fromFile) = (Calls(), Calls())
        #expect(run(flags, calls: fromFlags).status == 0)
        let path = file.path(percentEncoded: false)
        #expect(run(["train", "--config", path], calls: fromFile).status == 0)
        #expect(fromFlags.config != nil)
        #expect(fromFlags.config == fromFile.config)
        #expect(run(["train", "--print-config"]).status == 0)
    }

    @Test func scoresArePrintedForPeopleAndPrograms() throws {
        let arguments = ["score", "--model", "m", "--data", "d", "--quantize", "none"]
        let calls = Calls()
        let text = run(arguments, calls: calls)
        #expect(calls.scoreOptions?.quantize == BaseQuantization.none)
        #expect(text.output.out == "loss 2.0000  perplexity 7.3891  target tokens 4  rows 1\n")
        let json =
            #"{"loss": 2.0, "perplexity": 7.38905609893065, "num_target_tokens": 4, "#
            + #""rows": [{"num_target_tokens": 4, "nll": 8.0}]}"# + "\n"
        #expect(run(arguments + ["--json", "-"]).output.out == json)

        let folder = try Checkout.temporaryFolder()
        defer { try? FileManager.default.removeItem(at: folder) }
        let file = folder.appending(path: "score.json")
        let both = run(arguments + ["--json", file.path(percentEncoded: false)])
        #expect(both.output.out == text.output.out)
        #expect(try String(contentsOf: file, encoding: .utf8) == json)
        let nowhere = run(arguments + ["--json", "/no/such/folder/score.json"])
        #expect(nowhere.status == 1)
        #expect(nowhere.output.err.hasPrefix("peft: error: "))
        #expect(nowhere.output.err.contains("/no/such/folder/score.json"))
    }

    @Test func generatedTextIsStreamed() {
        let arguments = ["generate", "--model", "m", "--prompt", "Say it", "--chat"]
        let calls = Calls()
        let (status, output) = run(arguments, calls: calls)
        #expect(status == 0)
        #expect(output.out == "Once more\n")
        #expect(calls.generateOptions?.chat == true)
        #expect(calls.generateOptions?.prompt == "Say it")
        #expect(
            run(arguments + ["--json"]).output.out
                == #"{"prompt": "Say it", "text": "Once more", "num_prompt_tokens": 3, "#
                + #""num_new_tokens": 2, "stop_reason": "end_of_text", "#
                + #""prompt_tokens_per_second": 16.0, "tokens_per_second": 8.0}"#
                + "\n")
    }

    @Test func topPWithoutTemperatureIsWrongUse() {
        let (status, output) = run([
            "generate", "--model", "m", "--prompt", "p", "--top-p", "0.5",
        ])
        #expect(status == 2)
        #expect(
            output.err.hasPrefix(
                "peft: error: --top-p: has no effect on greedy generation: give temperature too\n"))
    }

    @Test func inspectionGroupsTheTensorsOfAllBlocks() {
        let (status, output) = run(["inspect", "out"])
        #expect(status == 0)
        #expect(
            output.out == """
                out: LoRA adapter
                  rank            16
                  target_modules  ["q_proj"]
                  num_parameters  1,234,567
                  config.json:
                    hidden_size  64
                    rope:
                      theta  10000.0
                    ids          100 items
                    template     \(String(repeating: "x", count: 60))\\nyyyyyyy...

                4 tensors:
                  layers.*.q.weight   F32   [16, 64]  x 2
                  layers.*.up.weight  BF16  [8, 64]
                  layers.*.up.weight  BF16  [4, 64]

                """)
        let json = run(["inspect", "out", "--json"]).output.out
        #expect(
            json.hasPrefix(
                #"{"path": "out", "kind": "LoRA adapter", "facts": {"rank": 16, "#
                    + #""target_modules": ["q_proj"], "num_parameters": 1234567, "config.json": {"hidden_size": 64, "#
                    + #""rope": {"theta": 10000.0}, "ids": [0, 1, 2, 3, "#))
        #expect(
            json.contains(
                #""tensors": [{"name": "layers.0.q.weight", "dtype": "F32", "shape": [16, 64]}, "#))
    }

    @Test func tokensAreOneArrayALine() throws {
        let folder = try Checkout.temporaryFolder()
        defer { try? FileManager.default.removeItem(at: folder) }
        let file = folder.appending(path: "text")
        let path = file.path(percentEncoded: false)
        try Data("ab\r\n\n\u{e9}\u{2028}\u{0}".utf8).write(to: file)
        let calls = Calls()
        let (status, output) = run(["tokenize", path, "--model", "m"], calls: calls)
        #expect(status == 0)
        #expect(output.out == "[97, 98, 13]\n[]\n[195, 169, 226, 128, 168, 0]\n")
        #expect(calls.tokenizeOptions?.model == "m")

        try Data([0x61, 0x0A, 0xFF, 0x0A, 0x62]).write(to: file)
        let broken = run(["tokenize", path, "--model", "m"])
        #expect(broken.status == 1)
        #expect(broken.output.out == "[97]\n")
        #expect(broken.output.err == "peft: error: \(path):2: expected UTF-8 text\n")
    }

    @Test(
        arguments: [
            ("/no/such/file", "cannot be opened: no such file or directory"),
            ("/", "cannot be read: is a directory"),
        ])
    func inputThatCannotBeReadIsNamed(path: String, reason: String) {
        let (status, output) = run(["tokenize", path, "--model", "m"])
        #expect(status == 1)
        #expect(output.err == "peft: error: \(path): \(reason)\n")
    }

    @Test func helpOfACommand() {
        #expect(
            HelpText.text(for: .tokenize, TokenizeOptions.self) == """
                usage: peft tokenize --model PATH FILE [options]

                Prints one JSON array of token ids a line of text; with --chat, a row of messages.

                Input:
                  --model PATH                  the model whose tokenizer is used (required)
                  FILE                          texts, one a line; -: standard input (required)
                  --chat                        each line is a JSON row of messages
                  --[no-]add-special-tokens     add the tokenizer's special tokens around each text (default:
                                                on)

                Command:
                  --config FILE                 read options from a YAML or JSON file; flags win
                  --print-config                print the options as YAML and stop
                  --help                        print this and stop

                Examples:
                  peft tokenize --model base corpus.txt
                  echo 'Hello, world' | peft tokenize --model base -

                """)
        #expect(HelpText.text(for: .inspect, InspectOptions.self).contains("--config") == false)
    }

    @Test func helpShowsDefaultsAndRequirements() {
        let text = HelpText.text(for: .train, TrainOptions.self)
        #expect(
            text.hasPrefix(
                "usage: peft train --model PATH --data FILE --output-dir FOLDER [options]\n"))
        #expect(text.contains("\n  --lora-r N                    the rank (default: 16)\n"))
        #expect(
            text.contains(
                "\n  --[no-]shuffle                take the rows in a random order (default: on)\n")
        )
        #expect(
            text.contains(
                "\n  --packing                     pack short rows together; they do not see"))
        #expect(text.contains("\n  --[no-]completion-only-loss   learn completions only;"))
        #expect(text.contains("a Hugging Face folder or a GGUF file (required)\n"))
        #expect(text.split(separator: "\n").allSatisfy { $0.count <= 96 })
        for option in FineTuneConfig.options {
            #expect(text.contains(option.key.kebabCased + " ") || text.contains(option.flag + "\n"))
        }
    }
}
