/// Decodes tokens one by one into pieces of text that end at whole characters.
///
/// The pieces together, with what `finish()` returns, are what `Tokenizer.decode` gives for all ids
/// at once. Ids that no token has leave no trace.
public struct StreamingDecoder: Sendable {
    private let tokenizer: Tokenizer
    private let skipsSpecialTokens: Bool

    /// The ids whose text is shown, but which the decoding of later ids may depend on.
    private var shown: [Int] = []
    /// The ids whose text is not shown yet.
    private var waiting: [Int] = []

    /// Makes a decoder that has seen no token.
    init(_ tokenizer: Tokenizer, skipSpecialTokens: Bool) {
        self.tokenizer = tokenizer
        skipsSpecialTokens = skipSpecialTokens
    }

    /// Takes the next id and returns the text that is complete by now; often empty.
    public mutating func append(_ id: Int) -> String {
        if tokenizer.token(id) == nil { return "" }
        if skipsSpecialTokens, tokenizer.isSpecial(id) { return "" }
        waiting.append(id)
        let text = newText()
        if text.isEmpty || text.hasSuffix("\u{FFFD}") { return "" }
        shown = waiting
        waiting = []
        return text
    }

    /// Ends the text and returns what is left, with replacement characters for broken ones.
    public mutating func finish() -> String {
        defer {
            shown = []
            waiting = []
        }
        return waiting.isEmpty ? "" : newText()
    }

    /// What the waiting ids add to the text of the shown ones.
    private func newText() -> String {
        let before = Array(text(shown).utf8)
        let all = Array(text(shown + waiting).utf8)
        guard all.starts(with: before) else { return "" }
        return String(decoding: all[before.count...], as: UTF8.self)
    }

    private func text(_ ids: [Int]) -> String {
        (try? tokenizer.decodeKnown(ids, skipSpecialTokens: skipsSpecialTokens)) ?? ""
    }
}
