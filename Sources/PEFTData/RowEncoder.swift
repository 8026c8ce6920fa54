package import PEFTTokenizers

/// Turns rows into tokens and says which of them are learned, as TRL's `SFTTrainer` does.
///
/// - text: the text and the end-of-sequence token; all tokens are learned.
/// - prompt and completion: joined as strings or by the chat template, then tokenized as a whole. The
///   completion begins where the tokens leave those of the prompt alone.
/// - messages: rendered by the chat template, tokenized without adding special tokens; all tokens are
///   learned, or the assistant's.
/// - tokens: as they are; all are learned.
///
/// - Source: trl 1.16 `trl/trainer/sft_trainer.py:SFTTrainer._prepare_dataset`.
package struct RowEncoder: Sendable {
    /// The tokens of a row, before any cut.
    package struct EncodedRow: Sendable, Equatable {
        /// Token ids.
        package var tokens: [Int32]
        /// Whether each token is learned; the first may be marked although nothing predicts it.
        package var isTarget: [Bool]
        /// Whether tokens merge across the border of prompt and completion.
        ///
        /// Then the model is trained on another end of the prompt than it sees when it is used.
        package var promptEndsInsideToken = false
        /// Whether the completion is good; nil where the row does not say.
        package var isDesirable: Bool?
    }

    /// The token that ends a text, if the tokenizer names one.
    package let eosTokenID: Int32?
    private let tokenizer: Tokenizer?
    /// A template that cannot be read only matters to conversations.
    private let chat: Result<ChatEncoder, DatasetProblem>?
    private let options: EncodingOptions

    /// Makes an encoder.
    ///
    /// - Parameters:
    ///   - tokenizer: may be nil for rows of tokens.
    ///   - options: what is learned.
    package init(tokenizer: Tokenizer?, options: EncodingOptions) {
        self.tokenizer = tokenizer
        self.options = options
        eosTokenID = (tokenizer?.configuration.eosID).flatMap(Int32.init(exactly:))
        if let tokenizer, let source = options.chatTemplate ?? tokenizer.configuration.chatTemplate
        {
            chat = Result { () throws(DatasetProblem) in
                try ChatEncoder(template: source, tokenizer: tokenizer)
            }
        } else {
            chat = nil
        }
    }

    /// Encodes a row: as one sequence, or a pair as two.
    package func encodeAll(_ row: DatasetRow) throws(DatasetProblem) -> [EncodedRow] {
        switch row {
        case .pair(let chosen, let rejected): return [try encode(chosen), try encode(rejected)]
        case .feedback(let completion, let isDesirable):
            var encoded = try encode(completion)
            encoded.isDesirable = isDesirable
            return [encoded]
        default: return [try encode(row)]
        }
    }

    /// Encodes a row that is one sequence.
    package func encode(_ row: DatasetRow) throws(DatasetProblem) -> EncodedRow {
        try checkLossOptions(for: row.kind)
        var encoded = try encodeUnchecked(row)
        if let reason = whyNothingIsLearned(encoded, row) { throw .noTargets(reason) }
        if !encoded.isTarget.isEmpty { encoded.isTarget[0] = false }
        return encoded
    }

    private func encodeUnchecked(_ row: DatasetRow) throws(DatasetProblem) -> EncodedRow {
        switch row {
        case .tokens(let tokens):
            return allLearned(tokens)
        case .text(let text):
            return allLearned(try tokens(of: try endedByEOS(text, row.kind), row.kind))
        case .promptCompletion(let prompt, let completion):
            let whole = prompt + (try endedByEOS(completion, row.kind))
            return continued(
                try tokens(of: prompt, row.kind), by: allLearned(try tokens(of: whole, row.kind)))
        case .chatCompletion(let prompt, let completion, let context):
            let chat = try chatEncoder(row.kind)
            let promptTokens = try chat.promptTokens(prompt, context)
            let whole = try chat.encode(
                prompt + completion, context, assistantOnly: options.assistantOnlyLoss)
            return continued(promptTokens, by: whole)
        case .pair, .feedback:
            preconditionFailure("a row of completions is encoded one by one")
        case .messages(let messages, let context):
            return try chatEncoder(row.kind).encode(
                messages, context, assistantOnly: options.assistantOnlyLoss)
        }
    }

    private func checkLossOptions(for kind: RowKind) throws(DatasetProblem) {
        if options.assistantOnlyLoss && !kind.isConversational {
            throw .optionNeedsOtherRows(
                option: "assistant_only_loss", needed: "messages", kind: kind.name)
        }
        let hasCompletion = kind == .promptCompletion || kind == .chatCompletion
        if options.completionOnlyLoss == true && !hasCompletion {
            throw .optionNeedsOtherRows(
                option: "completion_only_loss", needed: "prompt and completion", kind: kind.name)
        }
    }

    private func allLearned(_ tokens: [Int32]) -> EncodedRow {
        EncodedRow(tokens: tokens, isTarget: Array(repeating: true, count: tokens.count))
    }

    /// Masks what the whole shares with the prompt, unless prompts are learned, too.
    private func continued(_ prompt: [Int32], by whole: EncodedRow) -> EncodedRow {
        let shared = zip(prompt, whole.tokens).prefix { $0 == $1 }.count
        var masked = whole
        masked.promptEndsInsideToken = shared < prompt.count
        if options.completionOnlyLoss ?? true {
            for index in 0..<shared { masked.isTarget[index] = false }
        }
        return masked
    }

    private func whyNothingIsLearned(_ encoded: EncodedRow, _ row: DatasetRow) -> NoTargetsReason? {
        if encoded.isTarget.dropFirst().contains(true) { return nil }
        if encoded.tokens.count < 2 { return .tooShort(length: encoded.tokens.count) }
        return options.assistantOnlyLoss ? .noAssistantTurn : .emptyCompletion
    }

    private func endedByEOS(_ text: String, _ kind: RowKind) throws(DatasetProblem) -> String {
        guard let tokenizer else { throw .tokenizerMissing(kind: kind.name) }
        guard options.appendsEOS else { return text }
        guard let eos = tokenizer.configuration.eosToken else { throw .eosTokenMissing }
        let isEnded = text.utf8.reversed().starts(with: eos.utf8.reversed())
        return isEnded ? text : text + eos
    }

    private func tokens(of text: String, _ kind: RowKind) throws(DatasetProblem) -> [Int32] {
        guard let tokenizer else { throw .tokenizerMissing(kind: kind.name) }
        return try tokenizer.tokens(of: text, addSpecialTokens: true).ids.map(Int32.init)
    }

    private func chatEncoder(_ kind: RowKind) throws(DatasetProblem) -> ChatEncoder {
        if tokenizer == nil { throw .tokenizerMissing(kind: kind.name) }
        guard let chat else { throw .chatTemplateMissing }
        return try chat.get()
    }
}

extension Tokenizer {
    /// Encodes a text, the tokenizer's error told as the dataset's.
    func tokens(of text: String, addSpecialTokens: Bool) throws(DatasetProblem) -> Encoding {
        do {
            return try encode(text, addSpecialTokens: addSpecialTokens)
        } catch {
            throw .tokenizerFailed(reason: String(describing: error))
        }
    }
}
