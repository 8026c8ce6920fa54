import Foundation

/// What the files beside `tokenizer.json` say.
struct TokenizerFolder {
    /// Roles of tokens and the chat template.
    var configuration = TokenizerConfiguration()
    /// The entries of `added_tokens_decoder`, in the order of their ids.
    var addedTokens: [AddedToken] = []

    /// Reads `tokenizer_config.json`, `special_tokens_map.json` and `chat_template.jinja` as far as
    /// they exist; the first one wins where it and the second one differ.
    ///
    /// `add_bos_token` and `add_eos_token` are left alone: where there is a `tokenizer.json`,
    /// `transformers` 5 goes by its post-processor, whatever these say.
    init(_ folder: URL) throws(TokenizerError) {
        let config = try Self.read("tokenizer_config.json", in: folder)
        let map = try Self.read("special_tokens_map.json", in: folder)
        let sources = [config, map].compactMap { $0 }
        configuration.bosToken = try Self.token("bos_token", in: sources)
        configuration.eosToken = try Self.token("eos_token", in: sources)
        configuration.padToken = try Self.token("pad_token", in: sources)
        configuration.unkToken = try Self.token("unk_token", in: sources)
        if let config {
            configuration.chatTemplate = try Self.chatTemplate(in: config)
            addedTokens = try Self.addedTokens(in: config)
        }
        let template = folder.appending(path: "chat_template.jinja")
        if FileManager.default.fileExists(atPath: template.path) {
            configuration.chatTemplate = String(
                decoding: try Self.content(of: template), as: UTF8.self)
        }
    }

    private static func content(of url: URL) throws(TokenizerError) -> Data {
        do {
            return try Data(contentsOf: url)
        } catch {
            throw .unreadableFile(file: url.path, reason: error.localizedDescription)
        }
    }

    private static func read(
        _ name: String, in folder: URL
    ) throws(TokenizerError) -> StageReader? {
        let url = folder.appending(path: name)
        guard FileManager.default.fileExists(atPath: url.path) else { return nil }
        let value = try Tokenizer.parse(content(of: url), file: url.path)
        return StageReader(file: url.path, path: "", value: value)
    }

    /// A token given as a string or as an object with `content`, from the first source that has it.
    private static func token(
        _ role: String, in sources: [StageReader]
    ) throws(TokenizerError) -> String? {
        for source in sources {
            guard let member = source.member(role) else { continue }
            return try member.value.objectValue == nil
                ? member.string() : member.required("content").string()
        }
        return nil
    }

    /// The template, or the one named `default` of several.
    private static func chatTemplate(in config: StageReader) throws(TokenizerError) -> String? {
        guard let member = config.member("chat_template") else { return nil }
        guard member.value.arrayValue != nil else { return try member.string() }
        for entry in try member.elements() where try entry.required("name").string() == "default" {
            return try entry.required("template").string()
        }
        return nil
    }

    private static func addedTokens(in config: StageReader) throws(TokenizerError) -> [AddedToken] {
        guard let decoder = config.member("added_tokens_decoder") else { return [] }
        var tokens: [AddedToken] = []
        for (key, value) in try decoder.object() {
            let path = decoder.path + "[\"\(key)\"]"
            let entry = StageReader(file: decoder.file, path: path, value: value)
            guard let id = Int(key), id >= 0 else { throw entry.mismatch("an id as key") }
            tokens.append(try AddedToken(entry, id: id))
        }
        return tokens.sorted { $0.id < $1.id }
    }
}
