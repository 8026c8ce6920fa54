/// What `peft doctor` is told: the options of a training run, and how the findings are printed.
public struct DoctorOptions: Hashable, Sendable {
    /// The run to check.
    public var config = FineTuneConfig()
    /// The YAML or JSON file with the run's options; the same as `--config`.
    public var file: String?
    /// Whether to print JSON.
    public var json = false

    /// Makes options of defaults.
    public init() {}
}

extension DoctorOptions: ConfigurableOptions {
    /// The options of `peft train`, and the file as an argument.
    package static let options: [ConfigOption<DoctorOptions>] =
        FineTuneConfig.options.map { $0.lifted(to: \.config) } + [
            .init(
                "config_file", \.file, section: "Input", placeholder: "CONFIG", form: .argument,
                help: "the run's options, a YAML or JSON file; flags win"),
            .init("json", \.json, section: "Output", form: .flag, help: "print JSON"),
        ]

    /// The file that is read before the flags.
    package var configFile: String? { file }

    /// What is wrong with the config.
    package var problems: [ConfigProblem] { config.problems }
}
