public import Foundation

extension Tokenizer {
    /// Reads a Hugging Face `tokenizer.json`.
    ///
    /// - Parameters:
    ///   - tokenizerJSON: the content of the file.
    ///   - configuration: roles of tokens. Where it sets `addsBos` or `addsEos`, these replace the
    ///     file's post-processor.
    /// - Throws: `TokenizerError` for what the file lacks, or what is not known or supported in it.
    public init(
        tokenizerJSON: Data, configuration: TokenizerConfiguration = .init()
    ) throws(TokenizerError) {
        try self.init(tokenizerJSON: tokenizerJSON, configuration: configuration, overrides: [])
    }

    /// Reads the tokenizer of a model folder.
    ///
    /// `tokenizer.json` must be there; `tokenizer_config.json`, `special_tokens_map.json` and
    /// `chat_template.jinja` are read where they are.
    public static func load(folder: URL) throws(TokenizerError) -> Tokenizer {
        let url = folder.appending(path: "tokenizer.json")
        let data: Data
        do {
            data = try Data(contentsOf: url, options: .mappedIfSafe)
        } catch {
            throw .unreadableFile(file: url.path, reason: error.localizedDescription)
        }
        let files = try TokenizerFolder(folder)
        return try Tokenizer(
            tokenizerJSON: data, file: url.path, configuration: files.configuration,
            overrides: files.addedTokens)
    }

    /// Reads a `tokenizer.json`; `overrides` are added tokens of `tokenizer_config.json`, which
    /// replace those of the same id.
    private init(
        tokenizerJSON: Data, file: String = "tokenizer.json",
        configuration: TokenizerConfiguration, overrides: [AddedToken]
    ) throws(TokenizerError) {
        let root = StageReader(
            file: file, path: "", value: try Self.parse(tokenizerJSON, file: file))
        if let version = try root.optionalString("version"), version != "1.0" {
            throw try root.required("version").mismatch("\"1.0\"")
        }
        let model = try ModelRegistry.make(root.required("model"))
        var added = AddedTokenList(vocabulary: model.vocabulary, file: file)
        for entry in try root.member("added_tokens")?.elements() ?? [] {
            try added.append(try AddedToken(entry))
        }
        for token in overrides { try added.append(token) }
        var configuration = configuration
        try added.resolveRoles(of: &configuration)
        var postProcessor = try root.member("post_processor")?.make(
            from: PostProcessorRegistry.makers)
        if let template = try Self.template(configuration, file: file) { postProcessor = template }
        try self.init(
            model: model, addedTokens: added.tokens,
            normalizer: root.member("normalizer")?.make(from: NormalizerRegistry.makers),
            preTokenizer: root.member("pre_tokenizer")?.make(from: PreTokenizerRegistry.makers),
            postProcessor: postProcessor,
            decoder: root.member("decoder")?.make(from: DecoderRegistry.makers),
            configuration: configuration)
    }

    /// Parses JSON, with errors that name the file.
    static func parse(_ data: Data, file: String) throws(TokenizerError) -> JSONValue {
        do {
            return try JSONValue(parsing: data)
        } catch {
            throw .invalidJSON(file: file, reason: error.description)
        }
    }

    /// The post-processor that an explicit `addsBos` or `addsEos` asks for.
    static func template(
        _ configuration: TokenizerConfiguration, file: String
    ) throws(TokenizerError) -> TemplatePostProcessor? {
        guard configuration.addsBos != nil || configuration.addsEos != nil else { return nil }
        var sides: [[Int]] = [[], []]
        let roles = [
            (configuration.addsBos, configuration.bosID, "bos_token"),
            (configuration.addsEos, configuration.eosID, "eos_token"),
        ]
        for (side, (isAdded, id, name)) in roles.enumerated() where isAdded == true {
            guard let id else {
                throw .invalidField(
                    file: file, path: "add_" + name, expected: "false, or a \(name)", found: "true")
            }
            sides[side] = [id]
        }
        return TemplatePostProcessor(before: sides[0], after: sides[1])
    }
}

/// Added tokens while they are collected: gives each its id and keeps one for each id.
struct AddedTokenList {
    /// The tokens so far.
    private(set) var tokens: [AddedToken] = []

    private let vocabulary: Vocabulary
    private let file: String
    private var nextID: Int
    private var places: [ExactString: Int] = [:]

    /// Starts an empty list over the model's vocabulary.
    init(vocabulary: Vocabulary, file: String) {
        self.vocabulary = vocabulary
        self.file = file
        nextID = vocabulary.count
    }

    /// Adds a token or replaces the one of the same text.
    ///
    /// - Throws: `TokenizerError.addedTokenMismatch` if its id is neither the model's for this text
    ///   nor the next free one; Hugging Face's tokenizer would give it another id than the file says.
    mutating func append(_ token: AddedToken) throws(TokenizerError) {
        let key = ExactString(token.content)
        let place = places[key]
        let expected = place.map { tokens[$0].id } ?? vocabulary.id(of: token.content) ?? nextID
        guard token.id == expected else {
            throw .addedTokenMismatch(
                file: file, token: token.content, expected: expected, found: token.id)
        }
        if let place {
            tokens[place] = token
        } else {
            places[key] = tokens.count
            tokens.append(token)
            if token.id >= nextID { nextID = token.id + 1 }
        }
    }

    /// Sets the ids of a configuration's tokens, and makes them special added tokens.
    mutating func resolveRoles(
        of configuration: inout TokenizerConfiguration
    ) throws(TokenizerError) {
        configuration.bosID = try resolve(configuration.bosToken, "bos_token")
        configuration.eosID = try resolve(configuration.eosToken, "eos_token")
        configuration.padID = try resolve(configuration.padToken, "pad_token")
        configuration.unkID = try resolve(configuration.unkToken, "unk_token")
    }

    private mutating func resolve(
        _ token: String?, _ role: String
    ) throws(TokenizerError) -> Int? {
        guard let token else { return nil }
        if let place = places[ExactString(token)] {
            tokens[place].isSpecial = true
            return tokens[place].id
        }
        guard let id = vocabulary.id(of: token) else {
            throw .missingToken(file: file, path: role, token: token)
        }
        try append(AddedToken(special: token, id: id))
        return id
    }
}
