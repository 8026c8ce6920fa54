/// How the tokens of a text are chosen, and how many: what the commands that generate text have in common.
public struct SamplingOptions: Hashable, Sendable {
    /// The most tokens to generate.
    public var maxNewTokens: Int
    /// Divides the logits before sampling; 0 takes the likeliest token always.
    public var temperature = 0.0
    /// Samples among the likeliest tokens that together have this probability.
    public var topP = 1.0
    /// Seeds the sampling.
    public var seed = 42

    /// Makes options of defaults.
    public init(maxNewTokens: Int) { self.maxNewTokens = maxNewTokens }
}

extension SamplingOptions {
    /// The options, which their commands show beside those of the text.
    package static let options: [ConfigOption<SamplingOptions>] = [
        .init(
            "max_new_tokens", \.maxNewTokens, section: "Text", help: "the most tokens to generate"),
        .init(
            "temperature", \.temperature, section: "Text",
            help: "sample at this temperature; 0: the likeliest token always"),
        .init(
            "top_p", \.topP, section: "Text", placeholder: "P",
            help: "sample among the likeliest tokens of this total probability"),
        .init("seed", \.seed, section: "Text", help: "seeds the sampling"),
    ]

    /// What is wrong with the values.
    package var problems: [ConfigProblem] {
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
