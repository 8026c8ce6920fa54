/// What `peft generate` is told: how a prompt is continued.
@dynamicMemberLookup
public struct GenerateOptions: Hashable, Sendable {
    /// The model to work with; its properties are reached as if they were these options' own.
    public var base = ModelOptions()
    /// The text to continue, or with `chat` what the user says.
    public var prompt = ""
    /// Whether the prompt is put into the model's chat template.
    public var chat = false
    /// How tokens are chosen; its properties, too, are reached as if they were these options' own.
    public var sampling = SamplingOptions(maxNewTokens: 128)
    /// Whether to print one JSON object instead of the text as it comes.
    public var json = false

    /// Makes options of defaults; `model` and `prompt` must still be set.
    public init() {}

    /// A property of the model.
    public subscript<Value>(dynamicMember path: WritableKeyPath<ModelOptions, Value>) -> Value {
        get { base[keyPath: path] }
        set { base[keyPath: path] = newValue }
    }

    /// A property of the sampling.
    public subscript<Value>(dynamicMember path: WritableKeyPath<SamplingOptions, Value>) -> Value {
        get { sampling[keyPath: path] }
        set { sampling[keyPath: path] = newValue }
    }
}

extension GenerateOptions: ConfigurableOptions {
    /// Every option of `peft generate`.
    package static let options: [ConfigOption<GenerateOptions>] =
        ModelOptions.options.map { $0.lifted(to: \.base) } + [
            .init("prompt", \.prompt, section: "Text", help: "the text to continue"),
            .init("chat", \.chat, section: "Text", help: "put the prompt into the chat template"),
        ] + SamplingOptions.options.map { $0.lifted(to: \.sampling) } + [
            .init(
                "json", \.json, section: "Output", form: .flag,
                help: "print one JSON object instead of the text as it comes")
        ]

    /// What is wrong with the values.
    package var problems: [ConfigProblem] {
        var checks = ConfigChecks()
        checks.require("prompt", prompt, "the text to continue")
        return base.problems + checks.problems + sampling.problems
    }
}
