import Foundation
import TestSupport
import Testing
import TrainingTestSupport

/// Each stage of a run is made from the one before it alone: steps in a wrong order do not compile.
///
/// The compiler sees what an importer of `PEFT` sees.
@Suite struct StageOrderTests {
    /// A run of the stages in their order.
    private static let program = """
        import Foundation
        import PEFT

        func train(
            _ url: URL, _ options: BaseModelOptions, _ lora: LoRAConfig, _ sample: TokenBatch,
            _ schedule: LearningRateSchedule
        ) throws {
            let base = try BaseModel(at: url, options: options)
            let adapted = try AdaptedModel(base, adapter: lora, seed: 1)
            let sharded = try ShardedModel(adapted, execution: ResidentExecution())
            let ready = try ReadyModel(checking: sharded, sample: sample)
            let optimizer = try Optimizer(ready, rule: AdamW())
            let step = try TrainStep(
                ready, optimizer: optimizer, schedule: schedule, maxGradNorm: 1, seed: 1)
            _ = try step(step: 0, microBatches: [sample])
        }

        """

    /// One change of the program that must not compile.
    struct Mistake: Sendable, CustomTestStringConvertible {
        let testDescription: String
        /// What of the program is replaced.
        let right: String
        /// What stands there instead.
        let wrong: String
        /// What the compiler says.
        let message: String

        init(_ description: String, _ right: String, _ wrong: String, _ message: String) {
            testDescription = description
            self.right = right
            self.wrong = wrong
            self.message = message
        }

        /// The message about a stage where another one is needed.
        static func conversion(from found: String, to expected: String) -> String {
            "cannot convert value of type '\(found)' to expected argument type '\(expected)'"
        }
    }

    static let mistakes = [
        Mistake(
            "an adapter on a model that is not read yet", "AdaptedModel(base,",
            "AdaptedModel(options,", Mistake.conversion(from: "BaseModelOptions", to: "BaseModel")),
        Mistake(
            "an adapter on files that are not quantized yet", "AdaptedModel(base,",
            "AdaptedModel(BaseModelFiles.open(url),",
            Mistake.conversion(from: "BaseModelFiles", to: "BaseModel")),
        Mistake(
            "a second adapter", "let sharded",
            "_ = try AdaptedModel(adapted, adapter: lora, seed: 2); let sharded",
            Mistake.conversion(from: "AdaptedModel", to: "BaseModel")),
        Mistake(
            "units before the adapter", "ShardedModel(adapted,", "ShardedModel(base,",
            Mistake.conversion(from: "BaseModel", to: "AdaptedModel")),
        Mistake(
            "a check before the adapter", "checking: sharded", "checking: base",
            Mistake.conversion(from: "BaseModel", to: "ShardedModel")),
        Mistake(
            "a check before the units", "checking: sharded", "checking: adapted",
            Mistake.conversion(from: "AdaptedModel", to: "ShardedModel")),
        Mistake(
            "an optimizer of a base model", "Optimizer(ready,", "Optimizer(base,",
            Mistake.conversion(from: "BaseModel", to: "ReadyModel")),
        Mistake(
            "an optimizer before the check", "Optimizer(ready,", "Optimizer(adapted,",
            Mistake.conversion(from: "AdaptedModel", to: "ReadyModel")),
        Mistake(
            "an optimizer of units", "Optimizer(ready,", "Optimizer(sharded,",
            Mistake.conversion(from: "ShardedModel", to: "ReadyModel")),
        Mistake(
            "an optimizer of some tensors", "Optimizer(ready,",
            "Optimizer(ready.trainableParameters,",
            Mistake.conversion(from: "[Parameter]", to: "ReadyModel")),
        Mistake(
            "a step without adapter", "ready, optimizer: optimizer", "base, optimizer: optimizer",
            Mistake.conversion(from: "BaseModel", to: "ReadyModel")),
        Mistake(
            "a step before the check", "ready, optimizer: optimizer",
            "sharded, optimizer: optimizer",
            Mistake.conversion(from: "ShardedModel", to: "ReadyModel")),
        Mistake(
            "a step without optimizer", "optimizer: optimizer", "optimizer: nil",
            "'nil' is not compatible with expected argument type 'Optimizer'"),
        Mistake(
            "a trainer before the check", "TrainStep(\n        ready,",
            "Trainer(\n        sharded,",
            "'Trainer' initializer is inaccessible due to 'internal' protection level"),
        Mistake(
            "a base model of nothing", "BaseModel(at: url, options: options)", "BaseModel()",
            "missing arguments for parameters 'at', 'options' in call"),
        Mistake(
            "an adapted model by its members", "AdaptedModel(base, adapter: lora, seed: 1)",
            "AdaptedModel(base: base)", "extraneous argument label 'base:' in call"),
        Mistake(
            "a ready model of nothing",
            "ReadyModel(checking: sharded, sample: sample)", "ReadyModel()",
            "missing arguments for parameters 'checking', 'sample' in call"),
    ]

    @Test func theRightOrderCompiles() throws {
        #expect(try Typecheck.errors(in: Self.program) == [])
    }

    @Test(arguments: mistakes)
    func aWrongOrderDoesNotCompile(_ mistake: Mistake) throws {
        let start = try #require(Self.program.range(of: mistake.right)?.lowerBound)
        let wrong = Self.program.replacing(mistake.right, with: mistake.wrong, maxReplacements: 1)
        let errors = try Typecheck.errors(in: wrong)
        #expect(errors.contains { $0.message == mistake.message }, "\(errors)")
        let line = Self.program[..<start].count { $0 == "\n" } + 1
        let lines = line...(line + mistake.wrong.count { $0 == "\n" })
        #expect(errors.allSatisfy { lines.contains($0.line) }, "\(errors)")
    }
}

/// Type-checks programs against the modules of this build, without `package` access.
private enum Typecheck {
    /// An error of the compiler.
    struct Diagnostic: Equatable {
        /// The line of the program, from 1.
        let line: Int
        /// What the compiler says.
        let message: String
    }

    /// A compiler that does not do its work.
    struct Failure: Error {
        let output: String
    }

    /// The folder of the test bundle that runs; the modules are beside it.
    private static let build = URL(filePath: "/proc/self/exe").resolvingSymlinksInPath()
        .deletingLastPathComponent()

    /// The errors of a program; none if it compiles.
    static func errors(in program: String) throws -> [Diagnostic] {
        let files = try Workspace()
        let source = try files.write(program, as: "program.swift")
        try files.write("", as: "output")
        let process = Process()
        process.executableURL = URL(filePath: "/usr/bin/env")
        process.arguments =
            [
                "swiftc", "-typecheck", "-swift-version", "6", "-no-color-diagnostics",
                "-diagnostic-style", "llvm", "-module-cache-path",
                build.appending(path: "ModuleCache").path, "-I",
                build.appending(path: "Modules").path,
            ] + (try moduleMaps().flatMap { ["-Xcc", "-fmodule-map-file=\($0.path)"] }) + [source]
        let output = files.url.appending(path: "output")
        process.standardOutput = FileHandle.nullDevice
        process.standardError = try FileHandle(forWritingTo: output)
        try process.run()
        process.waitUntilExit()
        let text = try String(contentsOf: output, encoding: .utf8)
        let errors = text.split(separator: "\n").compactMap { Self.error($0, source) }
        guard errors.isEmpty == (process.terminationStatus == 0) else {
            throw Failure(output: text)
        }
        return errors
    }

    /// The error in a line such as `/tmp/program.swift:9:5: error: message`.
    private static func error(_ line: Substring, _ source: String) -> Diagnostic? {
        guard line.hasPrefix(source + ":") else { return nil }
        let parts = line.dropFirst(source.count + 1)
            .split(separator: ":", maxSplits: 3, omittingEmptySubsequences: false)
        guard parts.count == 4, let number = Int(parts[0]), parts[2] == " error" else {
            return nil
        }
        return Diagnostic(line: number, message: String(parts[3].dropFirst()))
    }

    /// The module maps of the C modules: built ones, and those of system libraries.
    private static func moduleMaps() throws -> [URL] {
        let folders = [build, Checkout.root.appending(path: "Sources")]
        return try folders.flatMap { folder in
            try FileManager.default.contentsOfDirectory(atPath: folder.path).sorted()
                .map { folder.appending(path: $0).appending(path: "module.modulemap") }
                .filter { FileManager.default.fileExists(atPath: $0.path) }
        }
    }
}
