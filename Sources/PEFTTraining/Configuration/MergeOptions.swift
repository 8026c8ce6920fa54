/// What `peft merge` is told: which adapter goes into which base, and how the result is stored.
public struct MergeOptions: Hashable, Sendable {
    /// The adapter folder.
    public var adapter = ""
    /// The base model: a Hugging Face folder or a GGUF file; nil for the one that the adapter names.
    public var model: String?
    /// Where the model goes: a folder, or a GGUF file.
    public var output = ""
    /// How the model is written.
    public var format = ModelFormat.huggingFace
    /// The element type of a folder's tensors.
    public var dtype = ExportDType.auto
    /// The most bytes of one file of a folder.
    public var maxShardSize = ByteCount(50_000_000_000)
    /// How the linears of the base are stored before the update is added.
    public var baseQuantize = MergeBaseStorage.auto
    /// How the linears of the merged model are stored.
    public var quantize = BaseQuantization.none
    /// Whether quantization constants are quantized too.
    public var doubleQuant = true
    /// Elements that share one quantization constant.
    public var quantBlockSize = 64
    /// Whether a model is written in which most of the update is lost.
    public var allowLostUpdate = false
    /// Whether an adapter that was trained on another base model is taken all the same.
    public var ignoreBaseFingerprint = false
    /// CPU threads; nil leaves the choice to libtorch.
    public var threads: Int?
    /// Whether to print JSON.
    public var json = false

    /// Makes options of defaults; `adapter` and `output` must still be set.
    public init() {}
}

/// How a model is written.
public enum ModelFormat: String, Codable, CaseIterable, Hashable, Sendable, ConfigChoice {
    /// A folder with `config.json` and safetensors files.
    case huggingFace = "huggingface"
    /// A GGUF file with matrices in float16.
    case ggufF16 = "gguf-f16"
    /// A GGUF file with matrices in 8 bits.
    case ggufQ8 = "gguf-q8_0"
}

/// The element type of tensors that are written.
public enum ExportDType: String, Codable, CaseIterable, Hashable, Sendable, ConfigChoice {
    /// Each as in the base's files; bfloat16 where these hold no plain numbers of a folder.
    case auto
    case bfloat16
    case float16
    case float32
}

/// How the linears of the base are stored before an update is added to them.
public enum MergeBaseStorage: String, Codable, CaseIterable, Hashable, Sendable, ConfigChoice {
    /// As in the run that trained the adapter, if the adapter says how; else the file's numbers.
    case auto
    /// The file's numbers.
    case none
    case nf4
    case fp4
}

extension MergeOptions: ConfigurableOptions {
    /// Every option of `peft merge`.
    package static let options: [ConfigOption<MergeOptions>] =
        inputOptions + outputOptions

    private static let inputOptions: [ConfigOption<MergeOptions>] = [
        .init(
            "adapter", \.adapter, section: "Input", placeholder: "FOLDER", help: "the adapter"),
        .init(
            "model", \.model, section: "Input", placeholder: "PATH",
            help: "the base model; by default the one that the adapter names"),
        .init(
            "base_quantize", \.baseQuantize, section: "Input",
            help:
                "what the update is added to: the file's numbers (none), or what they become in 4 "
                + "bits, as the run computed with; auto: as the adapter says"),
        .init(
            "ignore_base_fingerprint", \.ignoreBaseFingerprint, section: "Input",
            help: "take an adapter that was trained on another base"),
    ]

    private static let outputOptions: [ConfigOption<MergeOptions>] = [
        .init(
            "output", \.output, section: "Output", placeholder: "PATH",
            help: "where the model goes: a new folder, or a GGUF file"),
        .init(
            "format", \.format, section: "Output",
            help: "a Hugging Face folder, or of a GGUF base a GGUF file"),
        .init(
            "dtype", \.dtype, section: "Output",
            help: "the element type of a folder; auto: as the base's files"),
        .init(
            "max_shard_size", \.maxShardSize, section: "Output",
            help: "the most bytes of one file of a folder"),
        .init(
            "quantize", \.quantize, section: "Output",
            help: "store the merged linears in 4 bits, as bitsandbytes does"),
        .init(
            "double_quant", \.doubleQuant, section: "Output",
            help: "quantize the quantization constants too, of the base and of the merged model"),
        .init(
            "quant_block_size", \.quantBlockSize, section: "Output",
            help: "elements that share a constant: 32, 64, ... 4096"),
        .init(
            "allow_lost_update", \.allowLostUpdate, section: "Output",
            help: "write the model though rounding loses most of the update"),
        .init(
            "threads", \.threads, section: "Output",
            help: "CPU threads; by default libtorch's choice"),
        .init("json", \.json, section: "Output", form: .flag, help: "print JSON, every layer"),
    ]

    /// What is wrong with the values.
    package var problems: [ConfigProblem] {
        var checks = ConfigChecks()
        checks.require("adapter", adapter, "the adapter to merge")
        checks.require("output", output, "where the merged model goes")
        checks.expect("max_shard_size", maxShardSize, "at least 1MB") { $0.bytes >= 1_000_000 }
        let isGGUF = format != .huggingFace
        checks.forbid(
            "dtype", if: isGGUF && dtype != .auto, "has no effect on a GGUF file: leave it out")
        checks.forbid(
            "quantize", if: isGGUF && quantize != .none,
            "a GGUF file holds no 4-bit weights of bitsandbytes: leave --quantize or --format out")
        return checks.problems
            + BaseModelChecks.problems(quantBlockSize: quantBlockSize, threads: threads)
    }
}
