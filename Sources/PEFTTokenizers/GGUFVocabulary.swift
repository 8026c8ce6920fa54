/// The tokenizer's part of a GGUF file's metadata, key by key.
public struct GGUFVocabulary: Sendable, Equatable {
    /// `general.architecture`, on which the kind `llama` depends.
    public var architecture: String?
    /// `tokenizer.ggml.model`: the kind of tokenizer; `gpt2` is byte-level BPE, `llama` is BPE of
    /// SentencePiece.
    public var model: String
    /// `tokenizer.ggml.pre`: the name of the regular expression that cuts the text.
    public var pre: String?
    /// `tokenizer.ggml.tokens`: the tokens in the order of their ids.
    public var tokens: [String]
    /// `tokenizer.ggml.scores`: how likely the tokens are, of the kind `llama`; may be empty.
    public var scores: [Double]
    /// `tokenizer.ggml.token_type`: 1 normal, 3 control, 4 user-defined; may be empty.
    public var tokenTypes: [Int]
    /// `tokenizer.ggml.merges`: pairs with a space between, in the order of their rank.
    public var merges: [String]
    /// `tokenizer.ggml.bos_token_id`.
    public var bosID: Int?
    /// `tokenizer.ggml.eos_token_id`.
    public var eosID: Int?
    /// `tokenizer.ggml.padding_token_id`.
    public var padID: Int?
    /// `tokenizer.ggml.unknown_token_id`.
    public var unkID: Int?
    /// `tokenizer.ggml.add_bos_token`.
    public var addsBos: Bool?
    /// `tokenizer.ggml.add_eos_token`.
    public var addsEos: Bool?
    /// `tokenizer.chat_template`.
    public var chatTemplate: String?

    /// Makes a vocabulary of the metadata's values.
    public init(
        architecture: String? = nil, model: String, pre: String? = nil, tokens: [String],
        scores: [Double] = [], tokenTypes: [Int] = [], merges: [String] = [], bosID: Int? = nil,
        eosID: Int? = nil, padID: Int? = nil,
        unkID: Int? = nil, addsBos: Bool? = nil, addsEos: Bool? = nil, chatTemplate: String? = nil
    ) {
        self.architecture = architecture
        self.model = model
        self.pre = pre
        self.tokens = tokens
        self.scores = scores
        self.tokenTypes = tokenTypes
        self.merges = merges
        self.bosID = bosID
        self.eosID = eosID
        self.padID = padID
        self.unkID = unkID
        self.addsBos = addsBos
        self.addsEos = addsEos
        self.chatTemplate = chatTemplate
    }
}

/// How texts are cut for the vocabularies that a GGUF file's `tokenizer.ggml.pre` names.
///
/// The reference is what `transformers` 5.23 makes of the same file, for that is what people compare
/// with. It differs from llama.cpp and from the model's own `tokenizer.json` for `smollm` and its
/// relatives (`starcoder`, `refact`, `command-r`, `codeshell`, `exaone`, `minerva-7b`): those cut
/// every digit off before they apply GPT-2's expression, `transformers` only applies the latter. The
/// tokens differ where a number follows two or more characters of white space, and hardly anywhere
/// else: `"x  1"` is `x`, two spaces, `1` there, and `x`, a space, a space, `1` here. In Python's
/// standard library that is one line in 400. Who wants the former gives a folder with the model's
/// own `tokenizer.json` instead of the GGUF file.
///
/// With the vocabularies of Llama 3 and Mistral (`tekken`) a piece that is a token stays whole, as
/// both llama.cpp and the models' `tokenizer.json` have it, which `transformers` leaves out.
package enum GGUFPreTokenizer: CaseIterable {
    /// GPT-2's expression.
    case gpt2
    /// Llama 3's expression: digits in groups of three.
    case llama3
    /// Qwen 2's expression: single digits.
    case qwen2
    /// Qwen 3.5's expression: marks belong to words.
    case qwen35
    /// Mistral's expression: words are cut before capitals.
    case tekken
    /// GPT-4o's expression: like Mistral's, with contractions and groups of three digits.
    case gpt4o

    /// The pre-tokenizer of this name; files without a name are taken for GPT-2's.
    package init?(name: String?) {
        guard let name else {
            self = .gpt2
            return
        }
        guard let known = Self.allCases.first(where: { $0.names.contains(name) }) else {
            return nil
        }
        self = known
    }

    /// The names that stand for this one.
    package var names: [String] {
        switch self {
        case .gpt2:
            [
                "default", "gpt-2", "phi-2", "olmo", "mpt", "jais", "trillion", "granite-docling",
                "gigachat", "mellum", "a.x-4.0", "exaone4", "jina-es", "jina-de", "jina-v2-es",
                "jina-v2-de", "smollm", "starcoder", "refact", "command-r", "codeshell", "exaone",
                "minerva-7b",
            ]
        case .llama3:
            [
                "llama3", "llama-v3", "llama-bpe", "falcon3", "falcon-h1", "pixtral", "midm-2.0",
                "lfm2", "jina-v5-nano", "dbrx", "smaug-bpe",
            ]
        case .qwen2: ["qwen2", "deepseek-r1-qwen", "kormo", "f2llmv2", "megrez"]
        case .qwen35: ["qwen35"]
        case .tekken: ["tekken"]
        case .gpt4o: ["gpt-4o", "llama4", "kanana2", "talkie", "minimax-m2"]
        }
    }

    /// Whether a piece that is a token is taken whole, and texts begin with the bos token unless
    /// the file says otherwise.
    package var isTiktoken: Bool { self == .llama3 || self == .tekken }

    /// The regular expression whose matches are the pieces.
    package var pattern: String {
        let contractions = #"(?i:'s|'t|'re|'ve|'m|'ll|'d)"#
        let word = #"[^\r\n\p{L}\p{N}]?"#
        let upper = #"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]"#
        let lower = #"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"#
        let symbols = #" ?[^\s\p{L}\p{N}]+[\r\n]*"#
        let spaces = #"\s*[\r\n]+|\s+(?!\S)|\s+"#
        switch self {
        case .gpt2:
            return ByteLevelPreTokenizer.pattern
        case .llama3:
            return #"\#(contractions)|\#(word)\p{L}+|\p{N}{1,3}|\#(symbols)|\#(spaces)"#
        case .qwen2:
            return #"\#(contractions)|\#(word)\p{L}+|\p{N}|\#(symbols)|\#(spaces)"#
        case .qwen35:
            return #"\#(contractions)|\#(word)[\p{L}\p{M}]+|\p{N}"#
                + #"| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\#(spaces)"#
        case .tekken:
            return "\(word)\(upper)*\(lower)+|\(word)\(upper)+\(lower)*"
                + #"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\#(spaces)"#
        case .gpt4o:
            return "\(word)\(upper)*\(lower)+\(contractions)?|\(word)\(upper)+\(lower)*"
                + #"\#(contractions)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\#(spaces)"#
        }
    }
}

extension Tokenizer {
    /// Makes the tokenizer that a GGUF file's metadata describes.
    ///
    /// Control tokens and those with a role become special added tokens, user-defined ones added
    /// tokens; all keep the ids of the file.
    public init(gguf: GGUFVocabulary) throws(TokenizerError) {
        switch gguf.model {
        case "gpt2": try self.init(byteLevel: gguf)
        case "llama": try self.init(sentencePiece: gguf)
        default:
            throw .unknownStage(
                file: GGUFVocabulary.file, path: "tokenizer.ggml.model", type: gguf.model,
                known: ["gpt2", "llama"])
        }
    }

    private init(byteLevel gguf: GGUFVocabulary) throws(TokenizerError) {
        guard let pre = GGUFPreTokenizer(name: gguf.pre) else {
            throw .unknownStage(
                file: GGUFVocabulary.file, path: "tokenizer.ggml.pre", type: gguf.pre ?? "",
                known: GGUFPreTokenizer.allCases.flatMap(\.names))
        }
        let configuration = try gguf.configuration(addsBos: pre.isTiktoken)
        let split = SplitPreTokenizer(isolating: try Regex(pre.pattern))
        let spell = try ByteLevelPreTokenizer(addsPrefixSpace: false, usesRegex: false)
        try self.init(
            model: gguf.makeModel(ignoresMerges: pre.isTiktoken),
            addedTokens: gguf.addedTokens(roles: gguf.roleIDs),
            preTokenizer: PreTokenizerSequence([split, spell]),
            postProcessor: Self.template(configuration, file: GGUFVocabulary.file),
            decoder: ByteLevelDecoder(), configuration: configuration)
    }
}

extension GGUFVocabulary {
    /// What messages call the place of these values.
    static let file = "GGUF metadata"

    /// Roles, template, and what is added to texts; `addsBos` holds where the file says nothing and
    /// there is such a token.
    func configuration(addsBos defaultAddsBos: Bool) throws(TokenizerError)
        -> TokenizerConfiguration
    {
        var configuration = TokenizerConfiguration(
            addsBos: addsBos ?? (defaultAddsBos && bosID != nil), addsEos: addsEos,
            chatTemplate: chatTemplate)
        (configuration.bosID, configuration.bosToken) = try role(bosID, "bos")
        (configuration.eosID, configuration.eosToken) = try role(eosID, "eos")
        (configuration.padID, configuration.padToken) = try role(padID, "padding")
        (configuration.unkID, configuration.unkToken) = try role(unkID, "unknown")
        return configuration
    }

    /// The ids that have a role.
    var roleIDs: Set<Int> { Set([bosID, eosID, padID, unkID].compactMap { $0 }) }

    /// The tokens of kinds that are cut out of texts, and those of `roles`.
    func addedTokens(roles: Set<Int>) throws(TokenizerError) -> [AddedToken] {
        try check(tokenTypes.count, of: "token_type", "types")
        var added: [AddedToken] = []
        for (id, token) in tokens.enumerated() {
            let type = tokenTypes.isEmpty ? 1 : tokenTypes[id]
            guard type == 3 || type == 4 || roles.contains(id) else { continue }
            var addedToken = AddedToken(special: token, id: id)
            addedToken.isSpecial = type == 3 || roles.contains(id)
            added.append(addedToken)
        }
        return added
    }

    /// Refuses a list that has neither no elements nor one for each token.
    func check(_ count: Int, of key: String, _ what: String) throws(TokenizerError) {
        guard count == 0 || count == tokens.count else {
            throw .invalidField(
                file: Self.file, path: "tokenizer.ggml." + key,
                expected: "\(tokens.count) \(what)", found: "\(count)")
        }
    }

    fileprivate func makeModel(ignoresMerges: Bool) throws(TokenizerError) -> BPEModel {
        var vocabulary = Vocabulary(capacity: tokens.count)
        for (id, token) in tokens.enumerated() { vocabulary.insert(token, id: id) }
        var options = BPEModel.Options()
        options.ignoresMerges = ignoresMerges
        return try BPEModel(
            vocabulary: vocabulary, merges: merges.map(JSONValue.string), options: options,
            reader: StageReader(file: Self.file, path: "tokenizer.ggml.merges", value: .null))
    }

    private func role(_ id: Int?, _ name: String) throws(TokenizerError) -> (Int?, String?) {
        guard let id else { return (nil, nil) }
        guard tokens.indices.contains(id) else {
            throw .invalidField(
                file: Self.file, path: "tokenizer.ggml.\(name)_token_id",
                expected: "an id below \(tokens.count)", found: "\(id)")
        }
        return (id, tokens[id])
    }
}
