/// What `peft tokenize` is told: which text becomes which token ids.
public struct TokenizeOptions: Hashable, Sendable {
    /// The model whose tokenizer is used: a Hugging Face folder or a GGUF file.
    public var model = ""
    /// The file of texts, one a line; "-" is standard input.
    public var input = ""
    /// Whether each line is a JSON row of messages for the chat template.
    public var chat = false
    /// Whether the tokenizer adds its special tokens around each text.
    public var addSpecialTokens = true

    /// Makes options of defaults; `model` and `input` must still be set.
    public init() {}
}

extension TokenizeOptions: ConfigurableOptions {
    /// Every option of `peft tokenize`.
    package static let options: [ConfigOption<TokenizeOptions>] = [
        .init(
            "model", \.model, section: "Input", placeholder: "PATH",
            help: "the model whose tokenizer is used"),
        .init(
            "input", \.input, section: "Input", placeholder: "FILE", form: .argument,
            help: "texts, one a line; -: standard input"),
        .init("chat", \.chat, section: "Input", help: "each line is a JSON row of messages"),
        .init(
            "add_special_tokens", \.addSpecialTokens, section: "Input",
            help: "add the tokenizer's special tokens around each text"),
    ]

    /// What is wrong with the values.
    package var problems: [ConfigProblem] {
        var checks = ConfigChecks()
        checks.require("model", model, "the model whose tokenizer is used")
        checks.require("input", input, "texts, one a line")
        return checks.problems
    }
}
