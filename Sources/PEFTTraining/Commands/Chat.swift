import Foundation
import PEFTCheckpoints
import PEFTData
import PEFTModels
public import PEFTTokenizers
import Torch

/// A model to talk with: what `peft chat` does.
///
/// It knows nothing of a conversation but its tokens: each answer is asked for with all messages, and what the template makes of them is run
/// from where it differs from what the model has read already.
public final class Chat {
    /// One message of a conversation.
    public struct Message: Equatable, Sendable {
        /// `system`, `user` or `assistant`.
        public var role: String
        /// The text.
        public var content: String

        /// Makes a message.
        public init(role: String, content: String) {
            self.role = role
            self.content = content
        }

        /// The message as chat templates and rows have it.
        public var json: JSONValue {
            .object(["role": .string(role), "content": .string(content)])
        }
    }

    private let loaded: LoadedModel
    private let tokenizer: Tokenizer
    private let template: ChatTemplate
    private let generation: TokenGeneration
    private let maxNewTokens: Int
    private let seen = SeenTokens()

    /// Reads a model.
    ///
    /// - Parameter options: model and sampling.
    /// - Throws: ``TrainingError`` for a model without tokenizer or chat template; an error of the files, naming what, where, expected,
    ///   found and the remedy.
    public init(_ options: ChatOptions) throws {
        loaded = try LoadedModel(options.base)
        tokenizer = try loaded.requireTokenizer()
        guard let source = tokenizer.configuration.chatTemplate else {
            throw TrainingError.noChatTemplate(model: loaded.base.files.url.path)
        }
        template = try ChatTemplate(source)
        generation = try TokenGeneration(
            loaded.base.model,
            sampling: Sampling(temperature: options.temperature, topP: options.topP),
            seed: UInt64(options.seed))
        maxNewTokens = options.maxNewTokens
    }

    /// Answers the last message of a conversation.
    ///
    /// - Parameters:
    ///   - messages: all of it, the user's last.
    ///   - stop: ends the answer; nil for nothing.
    ///   - onText: called with each new piece of text.
    /// - Returns: the answer and counts.
    /// - Throws: `TemplateError` if the template refuses the conversation; `TorchError` if memory does not suffice.
    /// - Memory: the keys and values of the longest conversation so far.
    public func answer(
        _ messages: [Message], stop: StopRequest? = nil, onText: (String) -> Void = { _ in }
    ) throws -> ChatReply {
        let rendered = try template.render(
            messages: messages.map(\.json), addGenerationPrompt: true,
            variables: tokenizer.configuration.templateVariables)
        let prompt = try tokenizer.encode(rendered.text, addSpecialTokens: false).ids
        guard !prompt.isEmpty else { throw TrainingError.emptyPrompt }
        var decoder = tokenizer.makeStreamingDecoder(skipSpecialTokens: true)
        var text = ""
        func show(_ piece: String) {
            text += piece
            if !piece.isEmpty { onText(piece) }
        }
        let (tokens, isStopped) = try generation.run(
            prompt: prompt, maxNewTokens: maxNewTokens,
            stopTokens: Set([tokenizer.configuration.eosID].compactMap { $0 }), seen: seen
        ) { token in
            show(decoder.append(token))
            return stop?.signal == nil
        }
        show(decoder.finish())
        let isInterrupted = stop?.signal != nil
        return ChatReply(
            text: text, numPromptTokens: prompt.count, numReusedTokens: seen.numReused,
            numNewTokens: tokens.count,
            stopReason: isStopped ? .endOfText : isInterrupted ? .interrupted : .length)
    }
}

/// An answer.
public struct ChatReply: Equatable, Sendable {
    /// The text.
    public var text: String
    /// Tokens of the conversation before it.
    public var numPromptTokens: Int
    /// How many of these the model had read already.
    public var numReusedTokens: Int
    /// Tokens that were generated.
    public var numNewTokens: Int
    /// Why it ended.
    public var stopReason: GenerationReport.StopReason

    /// Makes a reply.
    public init(
        text: String, numPromptTokens: Int, numReusedTokens: Int, numNewTokens: Int,
        stopReason: GenerationReport.StopReason
    ) {
        self.text = text
        self.numPromptTokens = numPromptTokens
        self.numReusedTokens = numReusedTokens
        self.numNewTokens = numNewTokens
        self.stopReason = stopReason
    }

    /// The reply to a message as `peft chat --json` prints it.
    public func json(to message: String) -> JSONObject {
        [
            "user": .string(message), "text": .string(text),
            "num_prompt_tokens": .int(numPromptTokens),
            "num_reused_tokens": .int(numReusedTokens), "num_new_tokens": .int(numNewTokens),
            "stop_reason": .string(stopReason.rawValue),
        ]
    }
}
