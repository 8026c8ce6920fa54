public import PEFTTokenizers

/// What a model made of a prompt.
public struct GenerationReport: Equatable, Sendable {
    /// Why generation ended.
    public enum StopReason: String, Equatable, Sendable {
        /// The model wrote its end-of-text token.
        case endOfText = "end_of_text"
        /// `maxNewTokens` were generated.
        case length
        /// Somebody asked for it.
        case interrupted
    }

    /// The prompt as it was given.
    public var prompt: String
    /// The text that follows it.
    public var text: String
    /// Tokens of the prompt, with its chat template if there is one.
    public var numPromptTokens: Int
    /// Tokens that were generated.
    public var numNewTokens: Int
    /// Why generation ended.
    public var stopReason: StopReason
    /// Tokens of the prompt a second, up to the choice of the first new token.
    public var promptTokensPerSecond: Double
    /// Generated tokens a second, without the prompt and the first.
    public var tokensPerSecond: Double

    /// Makes a report.
    public init(
        prompt: String, text: String, numPromptTokens: Int, numNewTokens: Int,
        stopReason: StopReason, promptTokensPerSecond: Double, tokensPerSecond: Double
    ) {
        self.prompt = prompt
        self.text = text
        self.numPromptTokens = numPromptTokens
        self.numNewTokens = numNewTokens
        self.stopReason = stopReason
        self.promptTokensPerSecond = promptTokensPerSecond
        self.tokensPerSecond = tokensPerSecond
    }

    /// The report as `peft generate --json` prints it.
    public var json: JSONObject {
        [
            "prompt": .string(prompt), "text": .string(text),
            "num_prompt_tokens": .int(numPromptTokens), "num_new_tokens": .int(numNewTokens),
            "stop_reason": .string(stopReason.rawValue),
            "prompt_tokens_per_second": .double(promptTokensPerSecond),
            "tokens_per_second": .double(tokensPerSecond),
        ]
    }
}
