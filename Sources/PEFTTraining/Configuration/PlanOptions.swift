/// What `peft plan` is told: a training run, and the machine that it is to fit on.
public struct PlanOptions: Hashable, Sendable {
    /// The run to plan; its model's weights and its rows need not be there.
    public var config = FineTuneConfig()
    /// The YAML or JSON file with the run's options; the same as `--config`.
    public var file: String?
    /// The processes of the run.
    public var world = 1
    /// Memory that each process may take; nil only predicts.
    public var memory: ByteCount?
    /// Bytes that a process can send in a second; nil only counts.
    public var bandwidth: ByteCount?
    /// Whether to print JSON.
    public var json = false

    /// Makes options of defaults.
    public init() {}
}

extension PlanOptions: ConfigurableOptions {
    /// The options of `peft train`, the file as an argument, and the machine.
    package static let options: [ConfigOption<PlanOptions>] =
        FineTuneConfig.options.map { $0.lifted(to: \.config) } + [
            .init(
                "config_file", \.file, section: "Input", placeholder: "CONFIG", form: .argument,
                help: "the run's options, a YAML or JSON file; flags win"),
            .init(
                "world", \.world, section: "Machine", form: .flag, help: "the run's processes"),
            .init(
                "memory", \.memory, section: "Machine", form: .flag,
                help: "what each process may take: propose a run that fits"),
            .init(
                "bandwidth", \.bandwidth, section: "Machine", form: .flag,
                help: "what a process can send in a second: say how long a step's traffic takes"),
            .init("json", \.json, section: "Output", form: .flag, help: "print JSON"),
        ]

    /// The file that is read before the flags.
    package var configFile: String? { file }

    /// What is wrong with the values.
    package var problems: [ConfigProblem] {
        var checks = ConfigChecks()
        checks.expect("world", world, "at least 1") { $0 >= 1 }
        if let bandwidth {
            checks.expect("bandwidth", bandwidth.bytes, "more than nothing") { $0 > 0 }
        }
        return config.problems + checks.problems
    }
}
