/// What `peft quantize` is told: which model, and how it is stored.
public struct QuantizeOptions: Hashable, Sendable {
    /// The model: a Hugging Face folder or a GGUF file.
    public var model = ""
    /// The folder for the quantized model.
    public var output = ""
    /// The codebook.
    public var quantType = FourBitCodebook.nf4
    /// Whether quantization constants are quantized too.
    public var doubleQuant = true
    /// Elements that share one quantization constant.
    public var quantBlockSize = 64
    /// The element type before quantization, and of what is not quantized.
    public var dtype = ExportDType.auto
    /// The most bytes of one file.
    public var maxShardSize = ByteCount(50_000_000_000)
    /// CPU threads; nil leaves the choice to libtorch.
    public var threads: Int?
    /// Whether to print JSON.
    public var json = false

    /// Makes options of defaults; `model` and `output` must still be set.
    public init() {}
}

/// A 4-bit codebook.
public enum FourBitCodebook: String, Codable, CaseIterable, Hashable, Sendable, ConfigChoice {
    case nf4
    case fp4
}

extension QuantizeOptions: ConfigurableOptions {
    /// Every option of `peft quantize`.
    package static let options: [ConfigOption<QuantizeOptions>] = [
        .init(
            "model", \.model, section: "Input", placeholder: "PATH",
            help: "the model: a Hugging Face folder or a GGUF file"),
        .init(
            "output", \.output, section: "Output", placeholder: "FOLDER",
            help: "where the quantized model goes: a new folder"),
        .init(
            "quant_type", \.quantType, section: "Storage", help: "the levels of the 4-bit codes"),
        .init(
            "double_quant", \.doubleQuant, section: "Storage",
            help: "quantize the quantization constants too"),
        .init(
            "quant_block_size", \.quantBlockSize, section: "Storage",
            help: "elements that share a constant: 32, 64, ... 4096"),
        .init(
            "dtype", \.dtype, section: "Storage",
            help:
                "the element type before quantization, and of what is not quantized; auto: as the files"
        ),
        .init(
            "max_shard_size", \.maxShardSize, section: "Output",
            help: "the most bytes of one file"),
        .init(
            "threads", \.threads, section: "Output",
            help: "CPU threads; by default libtorch's choice"),
        .init("json", \.json, section: "Output", form: .flag, help: "print JSON"),
    ]

    /// What is wrong with the values.
    package var problems: [ConfigProblem] {
        var checks = ConfigChecks()
        checks.require("model", model, "the model to quantize")
        checks.require("output", output, "where the quantized model goes")
        checks.expect("max_shard_size", maxShardSize, "at least 1MB") { $0.bytes >= 1_000_000 }
        return checks.problems
            + BaseModelChecks.problems(quantBlockSize: quantBlockSize, threads: threads)
    }
}
