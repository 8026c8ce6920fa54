/// Which model a command works with, and how it is read.
public struct ModelOptions: Hashable, Sendable {
    /// The base model: a Hugging Face folder or a GGUF file.
    public var model = ""
    /// The adapters whose updates are added; none uses the base alone.
    public var adapter = AdapterFolders()
    /// Whether an adapter that was trained on another base model is taken all the same.
    public var ignoreBaseFingerprint = false
    /// How the frozen linears are stored.
    public var quantize = BaseQuantization.nf4
    /// Whether the quantization constants are quantized too.
    public var doubleQuant = true
    /// Elements that share one quantization constant.
    public var quantBlockSize = 64
    /// The dtype of the computation.
    public var dtype = ComputeDType.bfloat16
    /// The device that the model is on.
    public var device = DeviceChoice.auto
    /// CPU threads; nil leaves the choice to libtorch.
    public var threads: Int?

    /// Makes options of defaults; `model` must still be set.
    public init() {}
}

extension ModelOptions: ConfigurableOptions {
    /// The options that name a model, the same in every command that only reads it.
    package static let options: [ConfigOption<ModelOptions>] = [
        .init(
            "model", \.model, section: "Model", placeholder: "PATH",
            help: "the base model: a Hugging Face folder or a GGUF file"),
        .init(
            "adapter", \.adapter, section: "Model", placeholder: "FOLDER",
            help: "the adapter; several: their updates are added; none: the base alone"),
        .init(
            "ignore_base_fingerprint", \.ignoreBaseFingerprint, section: "Model",
            help: "take an adapter that was trained on another base"),
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
            "device", \.device, section: "Model",
            help: "where to compute; auto: on a GPU if there is one"),
        .init(
            "threads", \.threads, section: "Model",
            help: "CPU threads; by default libtorch's choice"),
    ]

    /// What is wrong with the values.
    package var problems: [ConfigProblem] {
        var checks = ConfigChecks()
        checks.require("model", model, "the base model")
        return checks.problems
            + BaseModelChecks.problems(quantBlockSize: quantBlockSize, threads: threads)
    }
}
