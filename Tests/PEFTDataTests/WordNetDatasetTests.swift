import Foundation
import PEFTData
import PEFTTokenizers
import TestSupport
import Testing

/// The bundled dataset `Examples/wordnet`.
@Suite struct WordNetDatasetTests {
    private static let folder = Checkout.root.appending(path: "Examples/wordnet")

    /// A row's question and answer, taken apart.
    private struct Entry {
        let lemma: String
        let partOfSpeech: String
        let definition: String
    }

    private func entries(_ file: String) throws -> [Entry] {
        let lines = try JSONLines(contentsOf: Self.folder.appending(path: file))
        return try lines.lines.map { line in
            let parsed = try DatasetRow.parse(lines.value(of: line), ignoresExtraColumns: false)
            let messages = try #require(
                { if case .messages(let messages, _) = parsed.row { messages } else { nil } }())
            #expect(parsed.ignored.isEmpty)
            #expect(messages.map { $0["role"]?.stringValue } == ["user", "assistant"])
            let question = try #require(messages.first?["content"]?.stringValue)
            let answer = try #require(messages.last?["content"]?.stringValue)
            let match = try #require(
                answer.wholeMatch(of: /([a-z]{3,14}) \((noun|verb|adjective|adverb)\): (.+)\./))
            let (lemma, kind) = (String(match.1), String(match.2))
            #expect(question == "Define the \(kind) '\(lemma)'.")
            return Entry(lemma: lemma, partOfSpeech: kind, definition: String(match.3))
        }
    }

    @Test func theCountsAreAsDocumented() throws {
        #expect(try entries("train.jsonl").count == 2400)
        #expect(try entries("eval.jsonl").count == 240)
    }

    @Test func nothingIsSharedBetweenTrainingAndHeldOutRows() throws {
        let entries = try entries("train.jsonl") + entries("eval.jsonl")
        #expect(Set(entries.map(\.lemma)).count == entries.count)
        #expect(Set(entries.map(\.definition)).count == entries.count)
    }

    @Test(arguments: ["train.jsonl", "eval.jsonl"])
    func definitionsArePlainProseOfFourToTwentyFiveWords(file: String) throws {
        for entry in try entries(file) {
            let words = entry.definition.split(separator: " ")
            #expect((4...25).contains(words.count), "\(entry.lemma)")
            #expect(entry.definition.allSatisfy { $0.isASCII && $0 != "\"" && $0 != ";" })
        }
    }

    @Test func theLicenceIsIncluded() throws {
        let file = Self.folder.appending(path: "LICENSE")
        let licence = try String(contentsOf: file, encoding: .utf8)
        #expect(licence.contains("WordNet 3.0 Copyright 2006 by Princeton University."))
        #expect(licence.contains("on ALL copies of the software, database and\ndocumentation"))
    }

    @Test(
        .enabled(
            if: FileManager.default.fileExists(atPath: "/usr/share/wordnet/data.noun"),
            "the package wordnet-base is not installed: apt-get install wordnet-base"))
    func theScriptGivesTheSameBytes() throws {
        let output = try Checkout.temporaryFolder()
        defer { try? FileManager.default.removeItem(at: output) }
        let script = Process()
        script.executableURL = URL(filePath: "/usr/bin/env")
        let path = Checkout.root.appending(path: "scripts/dataset/make_wordnet.py").path
        script.arguments = ["python3", path, output.path]
        try script.run()
        script.waitUntilExit()
        #expect(script.terminationStatus == 0)
        for file in ["train.jsonl", "eval.jsonl"] {
            let made = try Data(contentsOf: output.appending(path: file))
            #expect(try made == Data(contentsOf: Self.folder.appending(path: file)), "\(file)")
        }
    }
}
