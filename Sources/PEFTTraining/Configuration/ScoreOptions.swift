/// What `peft score` is told: how well a model predicts the targets of a file of rows.
public struct ScoreOptions: Hashable, Sendable {
    /// The base model: a Hugging Face folder or a GGUF file.
    public var model = ""
    /// The adapter folder; nil scores the base.
    public var adapter: String?
    /// How the frozen linears are stored.
    public var quantize = BaseQuantization.nf4
    /// Whether the quantization constants are quantized too.
    public var doubleQuant = true
    /// Elements that share one quantization constant.
    public var quantBlockSize = 64
    /// The dtype of the computation.
    public var dtype = ComputeDType.bfloat16
    /// The rows: a JSON lines file.
    public var data = ""
    /// The file for the score as JSON, "-" for standard output; nil prints it for people.
    public var json: String?
    /// The safetensors file for the logits of every row; nil keeps none.
    public var logits: String?
    /// The most tokens a row may have; nil leaves the limit to the model.
    public var maxLength: Int?
    /// What happens to longer rows.
    public var truncationMode = RowTruncation.error
    /// Rows scored at once.
    public var batchSize = 8
    /// CPU threads; nil leaves the choice to libtorch.
    public var threads: Int?

    /// Makes options of defaults; `model` and `data` must still be set.
    public init() {}
}

extension ScoreOptions: ConfigurableOptions {
    /// Every option of `peft score`.
    package static let options: [ConfigOption<ScoreOptions>] = [
        .init(
            "model", \.model, section: "Model", placeholder: "PATH",
            help: "the base model: a Hugging Face folder or a GGUF file"),
        .init(
            "adapter", \.adapter, section: "Model", placeholder: "FOLDER",
            help: "the adapter; without it the base is scored"),
        .init(
            "quantize", \.quantize, section: "Model", help: "how the frozen linears are stored"),
        .init(
            "double_quant", \.doubleQuant, section: "Model",
            help: "quantize the quantization constants too"),
        .init(
            "quant_block_size", \.quantBlockSize, section: "Model",
            help: "elements that share a constant: 32, 64, ... 4096"),
        .init("dtype", \.dtype, section: "Model", help: "the dtype of the computation"),
        .init(
            "data", \.data, section: "Rows", placeholder: "FILE", help: "the rows, JSON lines"),
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
        .init(
            "threads", \.threads, section: "Output",
            help: "CPU threads; by default libtorch's choice"
        ),
    ]

    /// What is wrong with the values.
    package var problems: [ConfigProblem] {
        var checks = ConfigChecks()
        checks.require("model", model, "the base model")
        checks.require("data", data, "the rows to score")
        checks.expect("batch_size", batchSize, "at least 1") { $0 >= 1 }
        if let maxLength { checks.expect("max_length", maxLength, "at least 2") { $0 >= 2 } }
        return checks.problems
            + BaseModelChecks.problems(quantBlockSize: quantBlockSize, threads: threads)
    }
}
