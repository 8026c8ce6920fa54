import Foundation
import TestSupport
import Testing
import TrainingTestSupport

/// What the README shows is run as it stands there, with paths of its own and fewer rows.
@Suite struct ReadmeTests {
    private let readme: String

    init() throws {
        readme = try String(contentsOf: Checkout.root.appending(path: "README.md"), encoding: .utf8)
    }

    @Test func libraryExampleIsTheProgramThatIsBuilt() throws {
        let program = try String(
            contentsOf: Checkout.root.appending(path: "Examples/FineTuneModel/main.swift"),
            encoding: .utf8)
        #expect(readme.contains("```swift\n\(program)```"))
    }

    @Test func libraryExampleTrains() throws {
        let files = try Workspace()
        let rows = (0..<8).map { row in
            #"{"tokens": [\#((0..<12).map { String(($0 * 7 + row) % 50) }.joined(separator: ", "))]}"#
        }
        try files.write(rows.joined(separator: "\n"), as: "rows.jsonl")
        let result = try RunningProgram.run(
            [
                Checkout.fixture("models/tied").path, files.url.appending(path: "rows.jsonl").path,
                files.url.appending(path: "out").path,
            ], of: "FineTuneModel")
        #expect(result.status == 0, "\(result.err)")
        #expect(result.out.split(separator: "\n").count == 20)
        #expect(
            FileManager.default.fileExists(
                atPath: files.url.appending(path: "out/adapter_model.safetensors").path))
    }

    /// The command lines between fences that begin with `peft`.
    private var commands: [String] {
        readme.split(separator: "\n").filter { $0.hasPrefix("peft ") }.map(String.init)
    }

    @Test(
        .enabled(
            if: FileManager.default.fileExists(atPath: Checkout.demoModel.path),
            "the demo model is not there: make model"))
    func everyCommandRuns() throws {
        let files = try Workspace()
        let heldOut = Checkout.root.appending(path: "Examples/wordnet/eval.jsonl")
        let few = try String(contentsOf: heldOut, encoding: .utf8).split(separator: "\n").prefix(3)
        try files.write(few.joined(separator: "\n"), as: "few.jsonl")
        let paths = [
            "MODEL": Checkout.demoModel.path, "demo-output": files.url.appending(path: "out").path,
            "Examples/wordnet/eval.jsonl": files.url.appending(path: "few.jsonl").path,
            "Examples/wordnet/demo.yaml":
                Checkout.root.appending(path: "Examples/wordnet/demo.yaml").path,
            "MERGED": files.path("merged"), "ADAPTER.gguf": files.path("adapter.gguf"),
            "ADAPTER-A:0.7": files.path("out") + ":0.7",
            "ADAPTER-B:0.3": files.path("out") + ":0.3",
            "COMBINED": files.path("combined"), "QUANTIZED": files.path("quantized"),
            "FILE": Checkout.root.appending(path: "CHANGELOG.md").path,
        ]
        #expect(commands.count >= 5)
        for command in commands {
            var arguments = Self.words(of: command).dropFirst().map { paths[$0] ?? $0 }
            if ["train", "doctor", "plan"].contains(arguments.first) {
                // The first step of the demo's warm-up changes nothing.
                arguments += [
                    "--model", Checkout.demoModel.path, "--data",
                    paths["Examples/wordnet/eval.jsonl"] ?? "",
                    "--eval-data", paths["Examples/wordnet/eval.jsonl"] ?? "",
                    "--output-dir", paths["demo-output"] ?? "", "--max-steps", "2",
                ]
            }
            if arguments.first == "chat" { arguments += ["--max-new-tokens", "4"] }
            let result = try RunningProgram.run(arguments, input: "Hello!\n")
            #expect(result.status == 0, "\(command): \(result.err)")
            #expect(!(result.out + result.err).isEmpty, "\(command)")
            guard arguments.first == "doctor" else { continue }
            for line in readme.split(separator: "\n") where line.hasPrefix("ok   ") {
                #expect(result.out.contains(line + "\n"))
            }
        }
    }

    /// The words of a command line, quotes removed as a shell would.
    static func words(of line: String) -> [String] {
        var words: [String] = []
        var word = ""
        var quote: Character?
        for character in line {
            if character == quote {
                quote = nil
            } else if quote == nil, "\"'".contains(character) {
                quote = character
            } else if quote == nil, character == " " {
                words.append(word)
                word = ""
            } else {
                word.append(character)
            }
        }
        return words + [word]
    }
}
