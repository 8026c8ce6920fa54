import Foundation
import PEFT
import TestSupport
import TrainingTestSupport

/// A folder in which a page's commands are run as they stand there.
struct Provoking {
    private let workspace: Workspace
    private let model: String

    /// Makes a folder with the files of a page.
    ///
    /// - Parameters:
    ///   - page: whose commands will be run.
    ///   - model: what `MODEL` stands for; nil for a tiny one.
    /// - Throws: an error of the file system.
    init(_ page: ErrorPage, model: String? = nil) throws {
        workspace = try Workspace()
        self.model = try model ?? TinyModel.write(to: workspace.url.appending(path: "MODEL"))
        for block in page.blocks where block.language == "json" {
            try workspace.write(block.text, as: block.name)
        }
        // What a page describes in words.
        if page.text.contains("`long.jsonl` holds") {
            try workspace.write(
                rows: [[Int]](repeating: [Int](repeating: 2, count: 500), count: 4000),
                as: "long.jsonl")
        }
        if page.text.contains("`mixed` holds") { try makeMixedAdapter() }
    }

    /// Runs commands one after another.
    ///
    /// - Returns: the result of the last one.
    /// - Throws: `Failure` if one before it fails.
    func run(_ commands: [String]) throws -> RunningProgram.Result {
        var last: RunningProgram.Result?
        for command in commands {
            if let last, last.status != 0 { throw Failure(message: last.err) }
            let words = ReadmeTests.words(of: command)
            let arguments = words.dropFirst().map(resolve)
            last = try RunningProgram.run(
                Array(arguments), of: words[0], in: workspace.url)
        }
        guard let last else { throw Failure(message: "no command") }
        return last
    }

    /// What a program printed that is not ready for a page.
    struct Failure: Error {
        /// What it printed.
        let message: String
    }

    /// Errors and coded notes of standard error, with the page's names for files.
    func shown(_ text: String) -> String {
        let known = [(model, "MODEL"), (workspace.url.path + "/", "")]
        let named = known.reduce(text) { $0.replacing($1.0, with: $1.1) }
        let lines = named.replacing(Checkout.root.path + "/", with: "").split(separator: "\n")
            .filter { $0.hasPrefix("peft: error: ") || $0.contains("PEFT-") }
        return lines.map { $0 + "\n" }.joined()
    }

    /// A text without what the machine decides: sizes, digests and numbers of floating-point arithmetic, in which operation or layer of
    /// a block the first infinity arises, and how far it spreads from there.
    static func masked(_ text: String) -> String {
        text.replacing(#/`\w+` in (model\.layers\.\d+)[\w.]*/#) { "# in \($0.output.1)" }
            .replacing(#/`\w+` in model/#, with: "# in model")
            .replacing(#/`\w+` ran while/#, with: "# ran while")
            .replacing(#/first here; \d+ trainable tensors \([^)]*\)/#, with: "first here; #")
            .replacing(#/[0-9a-f]{16}/#, with: "#")
            .replacing(#/[0-9]+\.[0-9]+(e-?[0-9]+)?/#, with: "#")
    }

    private func resolve(_ word: String) -> String {
        if word == "MODEL" { return model }
        let isOfCheckout = ["Tests/", "Examples/", ".cache/"].contains { word.hasPrefix($0) }
        return isOfCheckout ? Checkout.root.appending(path: word).path : word
    }

    /// An adapter whose tensors are not those of its configuration.
    private func makeMixedAdapter() throws {
        let source = Checkout.fixture("checkpoints/adapter")
        let folder = workspace.url.appending(path: "mixed")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: false)
        let name = "adapter_config.json"
        let config = try String(contentsOf: source.appending(path: name), encoding: .utf8)
        try workspace.write(
            config.replacing("\"r\": 4,", with: "\"r\": 2,"), as: "mixed/" + name)
        try FileManager.default.copyItem(
            at: source.appending(path: "adapter_model.safetensors"),
            to: folder.appending(path: "adapter_model.safetensors"))
    }
}
