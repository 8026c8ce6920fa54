import Foundation
import PEFT
import TestSupport
import Testing
import TrainingTestSupport

/// Every code has a page that tells the truth: its program is the one that is built, its message what the program prints.
///
/// With `UPDATE_DOCS=1` in the environment, the messages that are printed are written into the pages.
@Suite(.serialized) struct ErrorPagesTests {
    /// Codes whose mistake this version does not notice yet; their pages say what it will be.
    ///
    /// None at present.
    static let notYetProvoked: Set<DiagnosisCode> = []

    /// A page's provocation.
    struct Case: CustomTestStringConvertible {
        let code: DiagnosisCode
        let index: Int
        var testDescription: String { "\(code.rawValue) \(index + 1)" }
    }

    /// Every provocation of every page.
    static let cases = DiagnosisCode.allCases.filter { !notYetProvoked.contains($0) }.flatMap {
        code in
        let count = (try? ErrorPage(code).provocations.count) ?? 0
        return (0..<max(1, count)).map { Case(code: code, index: $0) }
    }

    /// The mistakes that people make most; each ends before the first step.
    static let classics: [(name: String, code: DiagnosisCode, index: Int)] = [
        ("frozen input and reentrant recomputation", .undeclaredCapture, 0),
        ("adapter loaded for inference", .adapterIsFrozen, 0),
        ("one misspelt target among good ones", .unmatchedTarget, 0),
        ("all labels masked, in code", .noTargets, 0),
        ("all labels masked, by an option", .noTargets, 1),
        ("forward without grad", .noGradRegion, 0),
        ("detach between blocks", .detached, 0),
        ("adapter inactive", .adapterInactive, 0),
        ("optimizer over stale tensors", .optimizerHoldsOthers, 0),
        ("head learns beside blocks that do not", .undeclaredCapture, 1),
        ("float16 without loss scaling", .float16WithoutScaling, 0),
    ]

    private static let hasDemoModel = FileManager.default.fileExists(
        atPath: Checkout.demoModel.path)

    /// Codes that are notes: the run goes on.
    private static let notes: Set<DiagnosisCode> = [
        .noEndOfText, .tensorStandsStill, .gradientVanishes, .lossOfTheBase,
    ]

    /// How a provocation of a code ends.
    private static func status(of code: DiagnosisCode) -> Int32 { notes.contains(code) ? 0 : 1 }

    // MARK: - Pages

    @Test(arguments: DiagnosisCode.allCases)
    func everyCodeHasItsPage(code: DiagnosisCode) throws {
        let page = try ErrorPage(code)
        #expect(page.text.hasPrefix("# \(code.rawValue): \(code.title)\n\n"))
        for section in ["## Why", "## In the Python stack", "## Mend it", "## Provoke it"] {
            #expect(page.text.contains("\n\(section)\n"), "\(section)")
        }
        #expect(
            Self.notYetProvoked.contains(code) || !page.provocations.isEmpty,
            "a program or command line that provokes it")
    }

    @Test func noPageIsOfAnotherCode() throws {
        let names = try RunFiles.names(in: ErrorPage.folder.path)
        let expected = DiagnosisCode.allCases.map { $0.rawValue + ".md" } + ["README.md"]
        #expect(names == expected.sorted())
    }

    @Test(arguments: DiagnosisCode.allCases)
    func programsShownAreThoseThatAreBuilt(code: DiagnosisCode) throws {
        let page = try ErrorPage(code)
        for block in page.blocks where block.language == "swift" {
            let source = try String(
                contentsOf: Checkout.root.appending(path: block.name), encoding: .utf8)
            #expect(block.text == source, "\(block.name)")
        }
    }

    /// A mistake that no page shows is not explained.
    @Test func everyMistakeIsOnAPage() throws {
        let shown = try DiagnosisCode.allCases.flatMap { try ErrorPage($0).blocks.map(\.name) }
        let folder = Checkout.root.appending(path: "Examples/Mistakes").path
        for name in try RunFiles.names(in: folder)
        where !["main.swift", "Setup.swift"].contains(name) {
            #expect(shown.contains("Examples/Mistakes/" + name))
        }
    }

    // MARK: - Messages

    @Test(arguments: cases)
    func messageShownIsWhatIsPrinted(_ example: Case) throws {
        let needsDemoModel = example.code == .memoryTooSmall
        if needsDemoModel, !Self.hasDemoModel {
            print("\(example.code.rawValue): not run, the demo model is not there: make model")
            return
        }
        let page = try ErrorPage(example.code)
        let provocation = try #require(page.provocations.dropFirst(example.index).first)
        let folder = try Provoking(page)
        let result = try folder.run(provocation.commands)
        #expect(result.status == Self.status(of: example.code), "\(result.err)")
        let shown = folder.shown(result.err)
        if ProcessInfo.processInfo.environment["UPDATE_DOCS"] != nil,
            shown.contains(example.code.rawValue)
        {
            try page.write(message: shown, of: example.index)
        } else {
            #expect(Provoking.masked(shown) == Provoking.masked(provocation.message))
        }
        #expect(shown.contains(example.code.rawValue + ": "))
    }

    @Test(.enabled(if: hasDemoModel, "the demo model is not there: make model"))
    func classicMistakesEndBeforeTheFirstStep() throws {
        for (name, code, index) in Self.classics where !Self.notYetProvoked.contains(code) {
            let page = try ErrorPage(code)
            let provocation = try #require(page.provocations.dropFirst(index).first, "\(name)")
            let folder = try Provoking(page, model: Checkout.demoModel.path)
            let clock = ContinuousClock()
            let last = try #require(provocation.commands.last)
            if provocation.commands.count > 1 {
                _ = try folder.run(provocation.commands.dropLast())
            }
            let start = clock.now
            let result = try folder.run([last])
            print("\(code.rawValue) \(name): \(clock.now - start)")
            #expect(result.status == Self.status(of: code), "\(name)")
            let errors = result.err.split(separator: "\n").filter { $0.hasPrefix("peft: error: ") }
            #expect(errors.contains { $0.contains("\(code.rawValue): ") }, "\(result.err)")
            #expect(!result.out.contains("step 1"), "\(name): \(result.out)")
        }
    }

    @Test func wrongUseOfTheMistakesIsNoMistakeFound() throws {
        for arguments in [[], ["NoSuchMistake", "model"], ["MaskedRows"]] {
            let result = try RunningProgram.run(arguments, of: "Mistakes")
            #expect(result.status == 2)
            #expect(result.err.hasPrefix("usage: Mistakes MISTAKE MODEL [FOLDER]\n"))
        }
    }

    // MARK: - Tables

    private func readme() throws -> String {
        try String(contentsOf: ErrorPage.folder.appending(path: "README.md"), encoding: .utf8)
    }

    /// The rows of the README's tables: their cells.
    private func rows() throws -> [[String]] {
        try readme().split(separator: "\n").filter { $0.contains("](PEFT-") && $0.hasPrefix("|") }
            .map { line in
                line.split(separator: "|").map { $0.trimmingCharacters(in: .whitespaces) }
            }
    }

    @Test func everyPageIsInTheTable() throws {
        let rows = try rows()
        for code in DiagnosisCode.allCases {
            let link = "[\(code.rawValue)](\(code.rawValue).md)"
            #expect(
                rows.contains { $0[0] == link && $0[1] == code.title }, "\(code.rawValue)")
        }
        #expect(rows.allSatisfy { $0.count == 3 })
    }

    @Test func everyTestNamedInTheReadmeExists() throws {
        for match in try readme().matches(of: #/`(\w+Tests)\.(\w+)`/#) {
            let (suite, function) = (String(match.output.1), String(match.output.2))
            #expect(
                try Self.source(ofSuite: suite)?.contains("func \(function)(") == true,
                "\(suite).\(function)")
        }
        for row in try rows() { #expect(row[2].contains("Tests."), "\(row[0]) names no test") }
    }

    /// The source of a test suite, which is named after its file.
    private static func source(ofSuite name: String) throws -> String? {
        let tests = Checkout.root.appending(path: "Tests")
        for target in try RunFiles.names(in: tests.path) {
            let file = tests.appending(path: "\(target)/\(name).swift")
            if FileManager.default.fileExists(atPath: file.path) {
                return try String(contentsOf: file, encoding: .utf8)
            }
        }
        return nil
    }
}
