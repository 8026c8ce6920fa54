public import Foundation
internal import PEFTCheckpoints
internal import PEFTData
internal import PEFTTokenizers

/// Turns lines into tokens: what `peft tokenize` does.
public enum Tokenize {
    /// Encodes each line and passes its tokens on.
    ///
    /// - Parameters:
    ///   - options: model, and whether lines are text or rows of messages.
    ///   - lines: the input.
    ///   - onTokens: called with the tokens of each line, in order.
    /// - Throws: an error that names what, where, expected, found and the remedy.
    public static func run(
        _ options: TokenizeOptions, lines: some Sequence<String>, onTokens: ([Int]) -> Void
    ) throws {
        let files = try BaseModelFiles.open(URL(filePath: options.model))
        guard let tokenizer = try files.makeTokenizer() else {
            throw TrainingError.noTokenizer(model: files.url.path)
        }
        let chat = try options.chat ? ConversationEncoder(tokenizer, model: files.url.path) : nil
        for (index, line) in lines.enumerated() {
            if let chat {
                onTokens(try chat.tokens(ofRow: line, number: index + 1))
            } else {
                onTokens(
                    try tokenizer.encode(line, addSpecialTokens: options.addSpecialTokens).ids)
            }
        }
    }
}
