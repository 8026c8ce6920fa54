import Foundation
package import PEFT

/// The program `peft`: parses arguments, calls the library, prints.
package struct Command {
    /// What a run of the program ends with.
    package enum Status {
        /// All was done.
        package static let done: Int32 = 0
        /// Something failed; one line an error says what.
        package static let failed: Int32 = 1
        /// The arguments are wrong.
        package static let wrongUse: Int32 = 2
        /// What shells report for a program that a signal ended.
        package static func stopped(by signal: Int32) -> Int32 { 128 + signal }
    }

    private let console: Console
    private let library: Library
    private let stop: StopRequest

    /// Makes a program.
    ///
    /// - Parameters:
    ///   - console: where it prints.
    ///   - library: what it calls.
    ///   - stop: asks a training run to end early.
    package init(console: Console, library: Library, stop: StopRequest = StopRequest()) {
        self.console = console
        self.library = library
        self.stop = stop
    }

    /// Runs one command line, without the program's name, and gives the exit status.
    package func run(_ arguments: [String]) -> Int32 {
        guard let first = arguments.first else {
            console.err(HelpText.overview())
            return Status.wrongUse
        }
        let rest = Array(arguments.dropFirst())
        switch first {
        case "--help", "-h":
            console.out(HelpText.overview())
            return Status.done
        case "help": return help(rest)
        case "--version", "version": return version()
        default: break
        }
        guard let name = CommandName(rawValue: first) else { return refuse(first) }
        return reporting(name) { try run(name, rest) }
    }

    /// Prints what a command throws, and gives the status.
    private func reporting(_ name: CommandName, _ body: () throws -> Int32) -> Int32 {
        do {
            return try body()
        } catch let error as ConfigError {
            console.printError(error.description)
            guard error.isUsageError else { return Status.failed }
            console.err("'peft \(name.rawValue) --help' shows the options.\n")
            return Status.wrongUse
        } catch {
            console.printError(DiagnosisCode.message(of: error))
            return Status.failed
        }
    }

    // MARK: - Commands

    private func run(_ name: CommandName, _ arguments: [String]) throws -> Int32 {
        switch name {
        case .train: try start(name, arguments, TrainOptions.self, train)
        case .doctor: try start(name, arguments, DoctorOptions.self, doctor)
        case .plan: try start(name, arguments, PlanOptions.self, plan)
        case .score: try start(name, arguments, ScoreOptions.self, score)
        case .generate: try start(name, arguments, GenerateOptions.self, generate)
        case .chat: try start(name, arguments, ChatOptions.self, chat)
        case .merge: try start(name, arguments, MergeOptions.self, merge)
        case .combine: try start(name, arguments, CombineOptions.self, combine)
        case .quantize: try start(name, arguments, QuantizeOptions.self, quantize)
        case .export: try start(name, arguments, ExportOptions.self, export)
        case .inspect: try start(name, arguments, InspectOptions.self, inspect)
        case .tokenize: try start(name, arguments, TokenizeOptions.self, tokenize)
        case .initModel: try start(name, arguments, InitModelOptions.self, initModel)
        case .launch: try startLaunch(arguments)
        }
    }

    /// Reads the options, and does what every command can do; `body` does the rest.
    private func start<Options: ConfigurableOptions>(
        _ name: CommandName, _ arguments: [String], _ type: Options.Type,
        _ body: (Options) throws -> Int32
    ) throws -> Int32 {
        let invocation = try Invocation<Options>.read(arguments)
        if invocation.help {
            console.out(HelpText.text(for: name, type))
            return Status.done
        }
        if invocation.printConfig {
            console.out(invocation.options.yaml)
            return Status.done
        }
        return try body(invocation.options)
    }

    private func train(_ options: TrainOptions) throws -> Int32 {
        var report = TrainingReport(console: console, asJSON: options.json)
        defer { report.end() }
        try library.train(options.config, stop) { report.show($0) }
        return report.wasInterrupted ? Status.stopped(by: stop.signal ?? SIGINT) : Status.done
    }

    private func doctor(_ options: DoctorOptions) throws -> Int32 {
        let report = try library.doctor(options.config)
        console.out(
            options.json ? report.json.line + "\n" : PreflightText.text(of: report))
        for check in report.checks where check.outcome == .failed {
            for finding in check.findings { console.printError(finding) }
        }
        return report.isReady ? Status.done : Status.failed
    }

    private func plan(_ options: PlanOptions) throws -> Int32 {
        let report = try library.plan(options)
        console.out(options.json ? report.json.line + "\n" : PlanText.text(of: report))
        return Status.done
    }

    private func score(_ options: ScoreOptions) throws -> Int32 {
        let report = try library.score(options)
        if let path = options.json, path != "-" {
            try AtomicFile.write(
                Data((report.json.line + "\n").utf8), to: URL(filePath: path))
        }
        console.printLine(
            options.json == "-"
                ? report.json.line
                : "loss \(NumberFormat.loss(report.loss))  perplexity "
                    + NumberFormat.loss(report.perplexity) + "  target tokens "
                    + NumberFormat.count(report.numTargetTokens) + "  rows "
                    + NumberFormat.count(report.rows.count))
        return Status.done
    }

    private func generate(_ options: GenerateOptions) throws -> Int32 {
        let report = try library.generate(options) { text in
            if !options.json { console.out(text) }
        }
        console.printLine(options.json ? report.json.line : "")
        return Status.done
    }

    private func chat(_ options: ChatOptions) throws -> Int32 {
        let answer = try library.chat(options)
        let lines = try LineReader("-")
        var conversation = Conversation(
            options, console: console, stop: stop, isInteractive: isatty(STDIN_FILENO) == 1,
            answer: answer)
        try conversation.run(lines)
        if let failure = lines.failure { throw failure }
        return Status.done
    }

    private func merge(_ options: MergeOptions) throws -> Int32 {
        let report = try library.merge(options)
        console.out(options.json ? report.json.line + "\n" : MergeText.text(of: report))
        return Status.done
    }

    private func combine(_ options: CombineOptions) throws -> Int32 {
        let report = try library.combine(options)
        console.printLine(
            options.json
                ? report.json.line
                : "adapter: \(report.output), \(report.type.rawValue) of rank \(report.rank), "
                    + "\(NumberFormat.count(report.numLayers)) layers, "
                    + NumberFormat.bytes(report.sizeBytes))
        return Status.done
    }

    private func quantize(_ options: QuantizeOptions) throws -> Int32 {
        let report = try library.quantize(options)
        if options.json {
            console.printLine(report.json.line)
        } else {
            console.printLine(
                "model: \(report.output), \(NumberFormat.count(report.numParameters)) parameters, "
                    + "\(report.storage), \(NumberFormat.bytes(report.sizeBytes)) in "
                    + "\(report.files.count) files")
            for note in report.notes { console.printLine("note: " + note) }
        }
        return Status.done
    }

    private func export(_ options: ExportOptions) throws -> Int32 {
        let summary = try library.export(options)
        console.printLine(
            options.json
                ? summary.json.line
                : "adapter: \(summary.output), \(NumberFormat.count(summary.numLayers)) layers, "
                    + NumberFormat.bytes(summary.sizeBytes))
        return Status.done
    }

    private func inspect(_ options: InspectOptions) throws -> Int32 {
        let report = try library.inspect(options)
        console.out(options.json ? report.json.line + "\n" : InspectText.text(of: report))
        return Status.done
    }

    private func tokenize(_ options: TokenizeOptions) throws -> Int32 {
        let lines = try LineReader(options.input)
        try library.tokenize(options, lines) { ids in
            console.printLine("[" + ids.map(String.init).joined(separator: ", ") + "]")
        }
        if let failure = lines.failure { throw failure }
        return Status.done
    }

    private func initModel(_ options: InitModelOptions) throws -> Int32 {
        let summary = try library.initModel(options)
        console.printLine(
            options.json
                ? summary.json.line
                : "model: \(options.outputDir), \(NumberFormat.count(summary.numParameters)) parameters, "
                    + "\(NumberFormat.bytes(summary.sizeBytes)) in \(summary.files.count) files")
        return Status.done
    }

    /// Takes what follows `--` for the processes; the rest are options.
    private func startLaunch(_ arguments: [String]) throws -> Int32 {
        let parts = arguments.split(
            separator: "--", maxSplits: 1, omittingEmptySubsequences: false)
        let rest = parts.count > 1 ? Array(parts[1]) : []
        return try start(.launch, Array(parts[0]), LaunchOptions.self) { options in
            guard rest.first == CommandName.train.rawValue else {
                console.printError(
                    "expected '-- train ...' after the options of launch, found "
                        + (rest.first.map { "'\($0)'" } ?? "nothing"))
                console.err("'peft launch --help' shows examples.\n")
                return Status.wrongUse
            }
            var options = options
            options.arguments = rest
            // A mistake is reported here once, and not by every process.
            return reporting(.train) {
                try start(.train, Array(rest.dropFirst()), TrainOptions.self) { train in
                    try train.config.validate()
                    return try library.launch(
                        options, stop,
                        Launch.Streams(err: console.err, isTerminal: console.isTerminal))
                }
            }
        }
    }

    // MARK: - Help and errors

    private func help(_ arguments: [String]) -> Int32 {
        guard let first = arguments.first else {
            console.out(HelpText.overview())
            return Status.done
        }
        guard let name = CommandName(rawValue: first) else { return refuse(first) }
        let text =
            switch name {
            case .train: HelpText.text(for: name, TrainOptions.self)
            case .doctor: HelpText.text(for: name, DoctorOptions.self)
            case .plan: HelpText.text(for: name, PlanOptions.self)
            case .score: HelpText.text(for: name, ScoreOptions.self)
            case .generate: HelpText.text(for: name, GenerateOptions.self)
            case .chat: HelpText.text(for: name, ChatOptions.self)
            case .merge: HelpText.text(for: name, MergeOptions.self)
            case .combine: HelpText.text(for: name, CombineOptions.self)
            case .quantize: HelpText.text(for: name, QuantizeOptions.self)
            case .export: HelpText.text(for: name, ExportOptions.self)
            case .inspect: HelpText.text(for: name, InspectOptions.self)
            case .tokenize: HelpText.text(for: name, TokenizeOptions.self)
            case .initModel: HelpText.text(for: name, InitModelOptions.self)
            case .launch: HelpText.text(for: name, LaunchOptions.self)
            }
        console.out(text)
        return Status.done
    }

    private func version() -> Int32 {
        do {
            console.printLine(try library.version())
            return Status.done
        } catch {
            console.printError(DiagnosisCode.message(of: error))
            return Status.failed
        }
    }

    private func refuse(_ word: String) -> Int32 {
        let names = CommandName.allCases.map(\.rawValue)
        let nearest = NearestName.of(word, in: names).map { "; did you mean '\($0)'?" } ?? ""
        let kind = word.hasPrefix("-") ? "option" : "command"
        console.printError("unknown \(kind) '\(word)'\(nearest)")
        console.err("'peft --help' shows the commands.\n")
        return Status.wrongUse
    }
}
