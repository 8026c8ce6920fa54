import Foundation
import TestSupport
import Testing
import TrainingTestSupport

/// The programs of Examples/ run, and what the library's articles show stands in them.
@Suite struct ExamplesTests {
    private let workspace: Workspace

    init() throws { workspace = try Workspace() }

    private func losses(_ result: RunningProgram.Result) throws -> [Double] {
        #expect(result.status == 0, "\(result.err)")
        return result.out.split(separator: "\n").compactMap { line in
            line.split(separator: " ").last.flatMap { Double($0) }
        }
    }

    @Test func aMethodOfOnesOwnLearnsAndIsReadAgain() throws {
        let output = workspace.path("ia3")
        let result = try RunningProgram.run([TinyModel.tied, output], of: "CustomAdapter")
        let losses = try losses(result)
        #expect(losses.count == 20 && losses[19] < losses[0] * 0.9)
        #expect(result.out.hasSuffix("read again: 6 layers\n"))
    }

    @Test func aModelOfOnesOwnTrains() throws {
        let result = try RunningProgram.run([workspace.path("own")], of: "CustomModel")
        let losses = try losses(result)
        #expect(losses.count == 10 && losses[9] < losses[0] * 0.9)
    }

    @Test func aLossOfOnesOwnTrains() throws {
        let result = try RunningProgram.run([TinyModel.tied], of: "CustomLoss")
        let losses = try losses(result)
        #expect(losses.count == 20 && losses[19] < losses[0] * 0.9)
    }

    @Test(arguments: [
        ("FineTuningAModel", "FineTuneModel"), ("WritingAnAdapterMethod", "CustomAdapter"),
        ("WritingAModel", "CustomModel"), ("WritingALoss", "CustomLoss"),
    ])
    func whatAnArticleShowsIsCompiled(article: String, example: String) throws {
        let text = try String(
            contentsOf: Checkout.root.appending(path: "Sources/PEFT/PEFT.docc/\(article).md"),
            encoding: .utf8)
        let folder = Checkout.root.appending(path: "Examples/\(example)")
        let program = try FileManager.default.contentsOfDirectory(
            at: folder, includingPropertiesForKeys: nil
        ).map { try lines(String(contentsOf: $0, encoding: .utf8)) }
        let blocks = text.components(separatedBy: "```swift\n").dropFirst().compactMap {
            $0.components(separatedBy: "```").first
        }
        #expect(!blocks.isEmpty)
        for block in blocks {
            let shown = lines(block)
            #expect(program.contains { $0.contains(shown) }, "\(block)")
        }
    }

    /// The text without indentation.
    private func lines(_ text: String) -> String {
        text.split(separator: "\n").map { $0.trimmingCharacters(in: .whitespaces) }
            .joined(separator: "\n")
    }
}
