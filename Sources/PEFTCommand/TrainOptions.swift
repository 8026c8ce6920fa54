package import PEFT

/// The options of `peft train`: the run's config, and how it is reported.
package struct TrainOptions: ConfigurableOptions {
    /// What the run is told.
    package var config = FineTuneConfig()
    /// Whether to print events as JSON lines instead of progress for people.
    package var json = false

    /// Makes options of defaults.
    package init() {}

    /// The config's table and `--json`.
    package static var options: [ConfigOption<TrainOptions>] {
        FineTuneConfig.options.map { $0.lifted(to: \.config) } + [
            .init(
                "json", \.json, section: "Reports", form: .flag,
                help: "print events as JSON lines on standard output")
        ]
    }

    /// What is wrong with the config.
    package var problems: [ConfigProblem] { config.problems }
}
