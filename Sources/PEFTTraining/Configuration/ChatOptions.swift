/// What `peft chat` is told: with which model to talk, and how it answers.
@dynamicMemberLookup
public struct ChatOptions: Hashable, Sendable {
    /// The model to work with; its properties are reached as if they were these options' own.
    public var base = ModelOptions()
    /// The system message that a conversation begins with; nil for none.
    public var system: String?
    /// The most tokens of an answer.
    public var maxNewTokens = 512
    /// Divides the logits before sampling; 0 takes the likeliest token always.
    public var temperature = 0.0
    /// Samples among the likeliest tokens that together have this probability.
    public var topP = 1.0
    /// Seeds the sampling.
    public var seed = 42
    /// Whether to print one JSON object an answer instead of the text as it comes.
    public var json = false

    /// Makes options of defaults; `model` must still be set.
    public init() {}

    /// A property of the model.
    public subscript<Value>(dynamicMember path: WritableKeyPath<ModelOptions, Value>) -> Value {
        get { base[keyPath: path] }
        set { base[keyPath: path] = newValue }
    }
}

extension ChatOptions: ConfigurableOptions {
    /// Every option of `peft chat`.
    package static let options: [ConfigOption<ChatOptions>] =
        ModelOptions.options.map { $0.lifted(to: \.base) } + [
            .init(
                "system", \.system, section: "Text",
                help: "the system message that a conversation begins with"),
            .init(
                "max_new_tokens", \.maxNewTokens, section: "Text",
                help: "the most tokens of an answer"),
            .init(
                "temperature", \.temperature, section: "Text",
                help: "sample at this temperature; 0: the likeliest token always"),
            .init(
                "top_p", \.topP, section: "Text", placeholder: "P",
                help: "sample among the likeliest tokens of this total probability"),
            .init("seed", \.seed, section: "Text", help: "seeds the sampling"),
            .init(
                "json", \.json, section: "Output", form: .flag,
                help: "print one JSON object an answer instead of the text as it comes"),
        ]

    /// What is wrong with the values.
    package var problems: [ConfigProblem] {
        base.problems
            + Sampled.problems(
                maxNewTokens: maxNewTokens, temperature: temperature, topP: topP, seed: seed)
    }
}

/// What the options of commands that generate text have in common.
enum Sampled {
    /// What is wrong with how tokens are chosen.
    static func problems(
        maxNewTokens: Int, temperature: Double, topP: Double, seed: Int
    ) -> [ConfigProblem] {
        var checks = ConfigChecks()
        checks.expect("max_new_tokens", maxNewTokens, "at least 1") { $0 >= 1 }
        checks.expect("temperature", temperature, "at least 0 (0: greedy)") {
            $0 >= 0 && $0.isFinite
        }
        checks.expect("top_p", topP, "above 0 and at most 1") { $0 > 0 && $0 <= 1 }
        checks.forbid(
            "top_p", if: topP < 1 && temperature == 0,
            "has no effect on greedy generation: give temperature too")
        checks.expect("seed", seed, "at least 0") { $0 >= 0 }
        return checks.problems
    }
}
