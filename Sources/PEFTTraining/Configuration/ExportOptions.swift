/// What `peft export` is told: which adapter, and for which program.
public struct ExportOptions: Hashable, Sendable {
    /// The adapter folder.
    public var adapter = ""
    /// The base model: a Hugging Face folder or a GGUF file; nil for the one that the adapter names.
    public var model: String?
    /// The file or folder to write.
    public var output = ""
    /// The form of the file.
    public var format = AdapterFormat.ggufLora
    /// Whether to print JSON.
    public var json = false

    /// Makes options of defaults; `adapter` and `output` must still be set.
    public init() {}
}

/// The form of an exported adapter.
public enum AdapterFormat: String, Codable, CaseIterable, Hashable, Sendable, ConfigChoice {
    /// A GGUF file that llama.cpp loads with `--lora`.
    case ggufLora = "gguf-lora"
    /// A folder of PEFT with a plain LoRA, made of an adapter that took a part out of its base.
    case peftLora = "peft-lora"
}

extension ExportOptions: ConfigurableOptions {
    /// Every option of `peft export`.
    package static let options: [ConfigOption<ExportOptions>] = [
        .init(
            "adapter", \.adapter, section: "Input", placeholder: "FOLDER", help: "the adapter"),
        .init(
            "model", \.model, section: "Input", placeholder: "PATH",
            help: "the base model; by default the one that the adapter names"),
        .init(
            "output", \.output, section: "Output", placeholder: "PATH",
            help: "where the adapter goes: a new file or folder"),
        .init("format", \.format, section: "Output", help: "the form of the file"),
        .init("json", \.json, section: "Output", form: .flag, help: "print JSON"),
    ]

    /// What is wrong with the values.
    package var problems: [ConfigProblem] {
        var checks = ConfigChecks()
        checks.require("adapter", adapter, "the adapter to export")
        checks.require("output", output, "the file or folder to write")
        return checks.problems
    }
}
