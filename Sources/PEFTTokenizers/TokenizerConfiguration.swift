/// What a tokenizer's folder or GGUF file says beside the vocabulary: roles of tokens, chat template.
public struct TokenizerConfiguration: Sendable, Hashable {
    /// The token that begins a text.
    public var bosToken: String?
    /// The token that ends a text, or a turn of a chat.
    public var eosToken: String?
    /// The token that fills up batches.
    public var padToken: String?
    /// The token for what the vocabulary lacks.
    public var unkToken: String?

    /// The id of `bosToken`; set by the tokenizer.
    public internal(set) var bosID: Int?
    /// The id of `eosToken`; set by the tokenizer.
    public internal(set) var eosID: Int?
    /// The id of `padToken`; set by the tokenizer.
    public internal(set) var padID: Int?
    /// The id of `unkToken`; set by the tokenizer.
    public internal(set) var unkID: Int?

    /// Whether encoding puts `bosToken` before a text; nil leaves it to `tokenizer.json`.
    public var addsBos: Bool?
    /// Whether encoding puts `eosToken` after a text; nil leaves it to `tokenizer.json`.
    public var addsEos: Bool?

    /// The source of the chat template.
    public var chatTemplate: String?

    /// Makes a configuration.
    public init(
        bosToken: String? = nil, eosToken: String? = nil, padToken: String? = nil,
        unkToken: String? = nil, addsBos: Bool? = nil, addsEos: Bool? = nil,
        chatTemplate: String? = nil
    ) {
        self.bosToken = bosToken
        self.eosToken = eosToken
        self.padToken = padToken
        self.unkToken = unkToken
        self.addsBos = addsBos
        self.addsEos = addsEos
        self.chatTemplate = chatTemplate
    }
}
