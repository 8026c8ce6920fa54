/// What `peft inspect` is told: which file or folder to describe.
public struct InspectOptions: Hashable, Sendable {
    /// A model, adapter or checkpoint folder, or a GGUF or safetensors file.
    public var path = ""
    /// Whether to print JSON.
    public var json = false

    /// Makes options of defaults; `path` must still be set.
    public init() {}
}

extension InspectOptions: ConfigurableOptions {
    /// Every option of `peft inspect`.
    package static let options: [ConfigOption<InspectOptions>] = [
        .init(
            "path", \.path, section: "Input", placeholder: "PATH", form: .argument,
            help: "a model, adapter or checkpoint folder, or a GGUF file"),
        .init("json", \.json, section: "Output", form: .flag, help: "print JSON"),
    ]

    /// What is wrong with the values.
    package var problems: [ConfigProblem] {
        var checks = ConfigChecks()
        checks.require("path", path, "what to inspect")
        return checks.problems
    }
}
