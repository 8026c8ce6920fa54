import Foundation
import PEFTCheckpoints
import PEFTData
import PEFTModels
import PEFTTokenizers
package import Torch

/// Continues a prompt: what `peft generate` does.
public enum Generate {
    /// Generates text, calling `onText` with each piece as it becomes whole characters.
    ///
    /// - Parameters:
    ///   - options: model, prompt and sampling.
    ///   - onText: called with each new piece of text.
    /// - Returns: text and counts.
    /// - Throws: an error that names what, where, expected, found and the remedy.
    public static func run(
        _ options: GenerateOptions, onText: (String) -> Void = { _ in }
    ) throws -> GenerationReport {
        try run(options, on: nil, onText: onText)
    }

    /// The same on a device that the options cannot name; nil for the one that they name.
    package static func run(
        _ options: GenerateOptions, on device: Device?, onText: (String) -> Void = { _ in }
    ) throws -> GenerationReport {
        let loaded = try LoadedModel(options.base, on: device)
        let tokenizer = try loaded.requireTokenizer()
        let prompt = try promptTokens(options, tokenizer, model: loaded.base.files.url.path)
        guard !prompt.isEmpty else { throw TrainingError.emptyPrompt }
        let generation = try TokenGeneration(
            loaded.base.model,
            sampling: Sampling(temperature: options.temperature, topP: options.topP),
            seed: UInt64(options.seed))
        var decoder = tokenizer.makeStreamingDecoder(skipSpecialTokens: true)
        var text = ""
        let clock = ContinuousClock()
        let start = clock.now
        var firstToken: ContinuousClock.Instant?
        let (tokens, isStopped) = try generation.run(
            prompt: prompt, maxNewTokens: options.maxNewTokens,
            stopTokens: Set([tokenizer.configuration.eosID].compactMap { $0 })
        ) { token in
            firstToken = firstToken ?? clock.now
            let piece = decoder.append(token)
            text += piece
            if !piece.isEmpty { onText(piece) }
            return true
        }
        let rest = decoder.finish()
        if !rest.isEmpty { onText(rest) }
        let promptSeconds = ((firstToken ?? clock.now) - start).seconds
        let seconds = firstToken.map { (clock.now - $0).seconds } ?? 0
        return GenerationReport(
            prompt: options.prompt, text: text + rest, numPromptTokens: prompt.count,
            numNewTokens: tokens.count, stopReason: isStopped ? .endOfText : .length,
            promptTokensPerSecond: Double(prompt.count) / promptSeconds,
            tokensPerSecond: seconds > 0 ? Double(tokens.count - 1) / seconds : 0)
    }

    /// The prompt as tokens: the text itself, or a conversation of one user message.
    private static func promptTokens(
        _ options: GenerateOptions, _ tokenizer: Tokenizer, model: String
    ) throws -> [Int] {
        guard options.chat else { return try tokenizer.encode(options.prompt).ids }
        guard let source = tokenizer.configuration.chatTemplate else {
            throw TrainingError.noChatTemplate(model: model)
        }
        let message = JSONValue.object([
            "role": .string("user"), "content": .string(options.prompt),
        ])
        let rendered = try ChatTemplate(source).render(
            messages: [message], addGenerationPrompt: true,
            variables: tokenizer.configuration.templateVariables)
        return try tokenizer.encode(rendered.text, addSpecialTokens: false).ids
    }
}
