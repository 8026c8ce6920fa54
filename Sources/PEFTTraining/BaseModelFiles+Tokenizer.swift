import Foundation
public import PEFTCheckpoints
public import PEFTTokenizers

extension BaseModelFiles {
    /// The tokenizer that lies beside the weights or inside the GGUF file.
    ///
    /// - Returns: nil if the model has none, which is enough for rows of tokens.
    /// - Throws: `TokenizerError` naming the stage or key that does not read.
    public func makeTokenizer() throws(TokenizerError) -> Tokenizer? {
        switch tokenizer {
        case .none: nil
        case .folder(let url): try Tokenizer.load(folder: url)
        case .gguf(let metadata): try Tokenizer(gguf: GGUFVocabulary(metadata))
        }
    }
}

extension GGUFVocabulary {
    /// Takes the vocabulary out of a GGUF file's metadata.
    init(_ metadata: GGUFMetadata) {
        func key(_ name: String) -> String { "tokenizer.ggml." + name }
        self.init(
            architecture: metadata.string("general.architecture"),
            model: metadata.string(key("model")) ?? "", pre: metadata.string(key("pre")),
            tokens: metadata.strings(key("tokens")) ?? [],
            scores: (metadata.floats(key("scores")) ?? []).map(Double.init),
            tokenTypes: metadata.ints(key("token_type")) ?? [],
            merges: metadata.strings(key("merges")) ?? [],
            bosID: metadata.int(key("bos_token_id")), eosID: metadata.int(key("eos_token_id")),
            padID: metadata.int(key("padding_token_id")),
            unkID: metadata.int(key("unknown_token_id")),
            addsBos: metadata.bool(key("add_bos_token")),
            addsEos: metadata.bool(key("add_eos_token")),
            chatTemplate: metadata.string("tokenizer.chat_template"))
    }
}
