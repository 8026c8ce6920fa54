/// What `peft chat` is told: with which model to talk, and how it answers.
@dynamicMemberLookup
public struct ChatOptions: Hashable, Sendable {
    /// The model to work with; its properties are reached as if they were these options' own.
    public var base = ModelOptions()
    /// The system message that a conversation begins with; nil for none.
    public var system: String?
    /// How tokens are chosen; its properties, too, are reached as if they were these options' own.
    public var sampling = SamplingOptions(maxNewTokens: 512)
    /// Whether to print one JSON object an answer instead of the text as it comes.
    public var json = false

    /// Makes options of defaults; `model` must still be set.
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

extension ChatOptions: ConfigurableOptions {
    /// Every option of `peft chat`.
    package static let options: [ConfigOption<ChatOptions>] =
        ModelOptions.options.map { $0.lifted(to: \.base) } + [
            .init(
                "system", \.system, section: "Text",
                help: "the system message that a conversation begins with")
        ] + SamplingOptions.options.map { $0.lifted(to: \.sampling) } + [
            .init(
                "json", \.json, section: "Output", form: .flag,
                help: "print one JSON object an answer instead of the text as it comes")
        ]

    /// What is wrong with the values.
    package var problems: [ConfigProblem] {
        base.problems + sampling.problems
    }
}
