/// What `peft init-model` is told: which model to make, and where.
public struct InitModelOptions: Hashable, Sendable {
    /// A Hugging Face `config.json`.
    public var config = ""
    /// The folder for the model.
    public var outputDir = ""
    /// With a tensor's name, decides its numbers.
    public var seed = 42
    /// The element type of the files.
    public var dtype = ComputeDType.bfloat16
    /// The most bytes of one file, in millions.
    public var maxShardMegabytes = 5000
    /// Whether a model that is in the folder is replaced.
    public var overwrite = false
    /// Whether to print JSON.
    public var json = false

    /// Makes options of defaults; `config` and `outputDir` must still be set.
    public init() {}
}

extension InitModelOptions: ConfigurableOptions {
    /// Every option of `peft init-model`.
    package static let options: [ConfigOption<InitModelOptions>] = [
        .init(
            "model_config", \.config, section: "Input", placeholder: "CONFIG", form: .argument,
            help: "the config.json of the model to make"),
        .init(
            "seed", \.seed, section: "Model",
            help: "with a tensor's name, decides its numbers"),
        .init("dtype", \.dtype, section: "Model", help: "the element type of the files"),
        .init(
            "output_dir", \.outputDir, section: "Output", placeholder: "FOLDER",
            help: "where the model goes"),
        .init(
            "max_shard_megabytes", \.maxShardMegabytes, section: "Output",
            help: "the most bytes of one file, in millions"),
        .init(
            "overwrite", \.overwrite, section: "Output",
            help: "replace the model that is in the folder already"),
        .init("json", \.json, section: "Output", form: .flag, help: "print JSON"),
    ]

    /// What is wrong with the values.
    package var problems: [ConfigProblem] {
        var checks = ConfigChecks()
        checks.require("model_config", config, "the config.json of a model", argument: "CONFIG")
        checks.require("output_dir", outputDir, "where the model goes")
        checks.expect("seed", seed, "at least 0") { $0 >= 0 }
        checks.expect("max_shard_megabytes", maxShardMegabytes, "at least 1") { $0 >= 1 }
        return checks.problems
    }
}
