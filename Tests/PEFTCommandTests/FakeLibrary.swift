import PEFT
import PEFTCommand

/// What a command printed.
final class Output {
    /// Standard output.
    var out = ""
    /// Standard error.
    var err = ""
    /// The time on the console's clock.
    var seconds = 0.0

    /// A console that writes here.
    func console(isTerminal: Bool = false, usesColor: Bool = false, width: Int = 80) -> Console {
        Console(
            out: { self.out += $0 }, err: { self.err += $0 }, isTerminal: isTerminal,
            usesColor: usesColor, width: { width }, seconds: { self.seconds })
    }
}

/// What the fake library was asked.
final class Calls {
    /// The configs and options that it was given.
    var config: FineTuneConfig?
    var scoreOptions: ScoreOptions?
    var generateOptions: GenerateOptions?
    var chatOptions: ChatOptions?
    var tokenizeOptions: TokenizeOptions?
    var launchOptions: LaunchOptions?
    /// What it was asked to merge, and what it says of it.
    var mergeOptions: MergeOptions?
    var merged = MergeReport(
        output: "merged", base: "the numbers of the base's files", storage: "bfloat16",
        files: ["model.safetensors"], sizeBytes: 1234, layers: [])
    /// What it was asked to combine.
    var combineOptions: CombineOptions?
    /// What it throws, if anything.
    var error: (any Error)?
    /// What its doctor finds.
    var preflight = PreflightReport()
    /// What it was asked to plan, and what it finds.
    var planOptions: PlanOptions?
    var plan = PlanReport(
        plan: RunPlan(numRanks: 1, numTokens: 8, parts: [], sentBytesPerStep: 0))
    /// The events of its training runs.
    var events: [TrainingEvent] = []

    /// A library that answers at once with fixed results.
    var library: Library {
        Library(
            version: { "swift-peft 0.0.0 (libtorch 0.0.0)" },
            train: { config, _, show in
                self.config = config
                if let error = self.error { throw error }
                for event in self.events { show(event) }
            },
            doctor: { config in
                self.config = config
                return self.preflight
            },
            plan: { options in
                self.planOptions = options
                return self.plan
            },
            score: { options in
                self.scoreOptions = options
                return ScoreReport(rows: [.init(numTargetTokens: 4, negativeLogLikelihood: 8)])
            },
            generate: { options, write in
                self.generateOptions = options
                write("Once ")
                write("more")
                return GenerationReport(
                    prompt: options.prompt, text: "Once more", numPromptTokens: 3, numNewTokens: 2,
                    stopReason: .endOfText, promptTokensPerSecond: 16, tokensPerSecond: 8)
            },
            chat: { options in
                self.chatOptions = options
                return { messages, _, write in
                    let text = "\(messages.count) messages"
                    write(text)
                    return ChatReply(
                        text: text, numPromptTokens: messages.count, numReusedTokens: 0,
                        numNewTokens: 2, stopReason: .endOfText)
                }
            },
            merge: { options in
                self.mergeOptions = options
                return self.merged
            },
            combine: { options in
                self.combineOptions = options
                return CombineReport(
                    output: options.output, type: options.type, rank: 8, numLayers: 14,
                    sizeBytes: 2_468)
            },
            quantize: { options in
                QuantizeReport(
                    output: options.output, storage: "nf4, block 64", files: ["model.safetensors"],
                    sizeBytes: 2_468, numParameters: 1_234, notes: ["a note"])
            },
            export: { options in
                Export.Summary(output: options.output, sizeBytes: 2_468, numLayers: 14)
            },
            inspect: { options in
                InspectReport(
                    path: options.path, kind: "LoRA adapter",
                    facts: [
                        "rank": 16, "target_modules": ["q_proj"], "num_parameters": 1_234_567,
                        "config.json": [
                            "hidden_size": 64, "rope": ["theta": 10_000.0],
                            "ids": .array((0..<100).map { .int($0) }),
                            "template": .string(
                                String(repeating: "x", count: 60) + "\n"
                                    + String(repeating: "y", count: 60)),
                        ],
                    ],
                    tensors: [
                        .init(name: "layers.0.q.weight", dtype: "F32", shape: [16, 64]),
                        .init(name: "layers.0.up.weight", dtype: "BF16", shape: [8, 64]),
                        .init(name: "layers.1.q.weight", dtype: "F32", shape: [16, 64]),
                        .init(name: "layers.1.up.weight", dtype: "BF16", shape: [4, 64]),
                    ])
            },
            tokenize: { options, lines, write in
                self.tokenizeOptions = options
                for line in lines { write(line.utf8.map(Int.init)) }
            },
            initModel: { _ in
                InitModel.Summary(
                    numParameters: 1_234, sizeBytes: 2_468, files: ["model.safetensors"])
            },
            launch: { options, _, _ in
                self.launchOptions = options
                return 0
            })
    }
}

/// Runs a command line against a fake library.
func run(
    _ arguments: [String], calls: Calls = Calls(), output: Output = Output()
) -> (status: Int32, output: Output) {
    let command = Command(console: output.console(), library: calls.library)
    return (command.run(arguments), output)
}
