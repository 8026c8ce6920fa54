import Foundation
import PEFTCheckpoints
import PEFTData
import PEFTTokenizers

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
        let rows = RowEncoder(tokenizer: tokenizer, options: EncodingOptions(appendsEOS: false))
        for (index, line) in lines.enumerated() {
            guard options.chat else {
                let special = options.addSpecialTokens
                onTokens(try tokenizer.encode(line, addSpecialTokens: special).ids)
                continue
            }
            do {
                let (row, _) = try DatasetRow.parse(
                    try JSONValue(parsing: line), ignoresExtraColumns: true)
                onTokens(try rows.encode(row).tokens.map { Int($0) })
            } catch {
                throw TrainingError.invalidRow(
                    file: options.input, line: index + 1, reason: "\(error)")
            }
        }
    }
}
