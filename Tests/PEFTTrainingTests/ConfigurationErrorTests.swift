import Foundation
import PEFT
import PEFTTokenizers
import PEFTTraining
import TestSupport
import Testing

@Suite struct ConfigErrorTests {
    private func fileErrors(_ text: String) throws -> [String] {
        var file = ConfigFile(FineTuneConfig())
        try file.read(text: text, "run.yaml")
        return file.problems.map(\.description)
    }

    @Test(
        arguments: [
            ("lora_rank: 8", "run.yaml:1: unknown key 'lora_rank'; did you mean 'lora_r'?"),
            ("\nxyzzyx: 8", "run.yaml:2: unknown key 'xyzzyx'"),
            ("json: true", "run.yaml:1: unknown key 'json'"),
            (
                "learning_rate: fast",
                "run.yaml:1: learning_rate: expected a number, found the string \"fast\""
            ),
            (
                "packing: yes",
                "run.yaml:1: packing: expected true or false, found the string \"yes\""
            ),
            ("lora_r: 1.5", "run.yaml:1: lora_r: expected a whole number, found the number 1.5"),
            ("max_steps:", "run.yaml:1: max_steps: expected a whole number, found nothing"),
            (
                "model: 123", "run.yaml:1: model: expected a string, found the whole number 123"
            ),
            (
                "quantize: int8",
                "run.yaml:1: quantize: expected one of nf4, fp4, none, found the string \"int8\""
            ),
            (
                "layers_to_transform: [0, a]",
                "run.yaml:1: layers_to_transform: expected a list, each item a whole number, "
                    + "found a list"
            ),
            (
                "rank_pattern: [1]",
                "run.yaml:1: rank_pattern: expected a map from names to values, "
                    + "each a whole number, found a list"
            ),
        ])
    func wrongKeysAndValuesNameTheirLine(text: String, message: String) throws {
        #expect(try fileErrors(text) == [message])
    }

    @Test func aFileThatIsNoMapIsRefused() {
        let error = #expect(throws: ConfigError.self) { try fileErrors("- a\n- b") }
        #expect(
            error?.description
                == "run.yaml:1: expected a map of options ('key: value'), found a list")
    }

    @Test(
        arguments: [
            (["--lora-rank", "8"], "unknown option '--lora-rank'; did you mean '--lora-r'?"),
            (["--shufle"], "unknown option '--shufle'; did you mean '--shuffle'?"),
            (["--no-shufle"], "unknown option '--no-shufle'; did you mean '--no-shuffle'?"),
            (["-x"], "unknown option '-x'"),
            (["stray"], "unexpected argument 'stray'"),
            (
                ["--lora-r"],
                "--lora-r needs a value: expected a whole number "
                    + "(a value that begins with '--' is written --lora-r=VALUE)"
            ),
            (
                ["--lora-r", "--packing"],
                "--lora-r needs a value: expected a whole number "
                    + "(a value that begins with '--' is written --lora-r=VALUE)"
            ),
            (["--lora-r", "x"], "--lora-r: expected a whole number, found 'x'"),
            (["--lora-r", ""], "--lora-r: expected a whole number, found ''"),
            (
                ["--save-total-limit", "null"],
                "--save-total-limit: expected a whole number, found 'null'"
            ),
            (["--packing=maybe"], "--packing: expected true or false, found 'maybe'"),
            (["--seed", "1", "--seed", "2"], "--seed is given twice"),
            (["--shuffle", "--no-shuffle"], "--no-shuffle is given twice"),
            (
                ["--rank-pattern", "q_proj:4"],
                "--rank-pattern: expected a map from names to values, each a whole number, "
                    + "found 'q_proj:4'"
            ),
            (
                ["--dtype", "fp16"],
                "--dtype: expected one of bfloat16, float32, float16, found 'fp16'"
            ),
            (
                ["--loss-scaling", "on"],
                "--loss-scaling: expected none, dynamic or a number, found 'on'"
            ),
        ])
    func wrongFlagsAreNamed(flags: [String], message: String) {
        var arguments = CommandArguments(FineTuneConfig())
        arguments.read(flags)
        #expect(arguments.problems.map(\.description) == [message])
    }

    @Test func flagsWinOverTheFile() throws {
        let folder = try Checkout.temporaryFolder()
        defer { try? FileManager.default.removeItem(at: folder) }
        let file = folder.appending(path: "run.yaml")
        try Data("lora_r: 4\nseed: 5\nmodel: m\ndata: d\n".utf8).write(to: file)
        let path = file.path(percentEncoded: false)
        let config = try Invocation<FineTuneConfig>.read([
            "--lora-r", "8", "--config", path, "--output-dir", "o",
        ]).options
        #expect(config.loraR == 8)
        #expect(config.seed == 5)
        #expect(config.model == "m")
    }

    @Test func problemsOfFlagsFileAndValuesAreReportedAtOnce() throws {
        let folder = try Checkout.temporaryFolder()
        defer { try? FileManager.default.removeItem(at: folder) }
        let file = folder.appending(path: "run.yaml")
        try Data("modle: m\nlora_dropout: 1.5\nwarmup_steps: -1\n".utf8).write(to: file)
        let path = file.path(percentEncoded: false)
        let error = #expect(throws: ConfigError.self) {
            try Invocation<FineTuneConfig>.read([
                "--config", path, "--seeed", "1", "--data", "d", "--output-dir", "o", "--lora-r",
                "0",
                "--warmup-steps", "2",
            ])
        }
        #expect(
            error?.description == """
                unknown option '--seeed'; did you mean '--seed'?
                \(path):1: unknown key 'modle'; did you mean 'model'?
                model is required (the base model): give --model or the key in a config file
                --lora-r: expected at least 1, found 0
                \(path):2: lora_dropout: expected at least 0 and below 1, found 1.5
                """)
        #expect(error?.isUsageError == false)
    }

    @Test func aMissingConfigFileIsNamed() {
        let error = #expect(throws: ConfigError.self) {
            try FineTuneConfig(contentsOf: URL(filePath: "/no/such/run.yaml"))
        }
        #expect(
            error?.description == "/no/such/run.yaml: cannot be read: no such file or directory")
    }

    @Test func jsonFilesAreRead() throws {
        let folder = try Checkout.temporaryFolder()
        defer { try? FileManager.default.removeItem(at: folder) }
        let file = folder.appending(path: "run.json")
        let json = #"""
            {
            	"model":"a\/b \ud83d\ude00 \\ud83d\\ude00 \u00e9", "data": "d",
            	"output_dir": "o", "learning_rate": 1e-05, "target_modules": ["q_proj"],
            	"eval_data": null, "packing": true, "rank_pattern": {"q_proj": 4}
            }
            """#
        try Data(json.utf8).write(to: file)
        let config = try FineTuneConfig(contentsOf: file)
        #expect(config.model == "a/b 😀 \\ud83d\\ude00 é")
        #expect(config.learningRate == 1e-5)
        #expect(config.targetModules == .names(["q_proj"]))
        #expect(config.packing)
        #expect(config.rankPattern == ["q_proj": 4])
    }

    @Test func aFileThatIsNotTextIsNamed() throws {
        let folder = try Checkout.temporaryFolder()
        defer { try? FileManager.default.removeItem(at: folder) }
        let file = folder.appending(path: "run.yaml")
        try Data([0x6D, 0xFF, 0xFE]).write(to: file)
        let error = #expect(throws: ConfigError.self) { try FineTuneConfig(contentsOf: file) }
        let path = file.path(percentEncoded: false)
        #expect(error?.description == "\(path): cannot be read: it is not UTF-8 text")
    }
}
