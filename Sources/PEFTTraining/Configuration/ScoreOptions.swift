public import PEFTData

/// What `peft score` is told: how well a model predicts the targets of a file of rows.
@dynamicMemberLookup
public struct ScoreOptions: Hashable, Sendable {
    /// The model to work with; its properties are reached as if they were these options' own.
    public var base = ModelOptions()
    /// The rows: a file of JSON lines, of comma-separated values, or in Parquet.
    public var data = ""
    /// The file for the score as JSON, "-" for standard output; nil prints it for people.
    public var json: String?
    /// The safetensors file for the logits of every row; nil keeps none.
    public var logits: String?
    /// The most tokens a row may have; nil for no limit.
    public var maxLength: Int?
    /// What happens to longer rows.
    public var truncationMode = TruncationMode.error
    /// Rows scored at once.
    public var batchSize = 8

    /// Makes options of defaults; `model` and `data` must still be set.
    public init() {}

    /// A property of the model.
    public subscript<Value>(dynamicMember path: WritableKeyPath<ModelOptions, Value>) -> Value {
        get { base[keyPath: path] }
        set { base[keyPath: path] = newValue }
    }
}

extension ScoreOptions: ConfigurableOptions {
    /// Every option of `peft score`.
    package static let options: [ConfigOption<ScoreOptions>] =
        ModelOptions.options.map { $0.lifted(to: \.base) } + [
            .init(
                "data", \.data, section: "Rows", placeholder: "FILE",
                help: "the rows: JSON lines, .csv or .parquet"),
            .init(
                "max_length", \.maxLength, section: "Rows",
                help: "the most tokens a row may have; by default no limit"),
            .init(
                "truncation_mode", \.truncationMode, section: "Rows",
                help: "what happens to longer rows"),
            .init("batch_size", \.batchSize, section: "Rows", help: "rows scored at once"),
            .init(
                "json", \.json, section: "Output", placeholder: "FILE", form: .flag,
                help: "write the score as JSON; -: to standard output"),
            .init(
                "logits", \.logits, section: "Output", placeholder: "FILE", form: .flag,
                help: "write logits.<row> [tokens, vocabulary] float32 as safetensors"),
        ]

    /// What is wrong with the values.
    package var problems: [ConfigProblem] {
        var checks = ConfigChecks()
        checks.require("data", data, "the rows to score")
        checks.expect("batch_size", batchSize, "at least 1") { $0 >= 1 }
        if let maxLength { checks.expect("max_length", maxLength, "at least 2") { $0 >= 2 } }
        return base.problems + checks.problems
    }
}
