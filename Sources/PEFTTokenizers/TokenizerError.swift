/// What is wrong with a tokenizer's files, or with a request to it.
public enum TokenizerError: Error, Equatable, Sendable, CustomStringConvertible {
    /// The file cannot be read.
    case unreadableFile(file: String, reason: String)
    /// The file is not JSON.
    case invalidJSON(file: String, reason: String)
    /// A value at `path` is missing or of the wrong kind.
    case invalidField(file: String, path: String, expected: String, found: String)
    /// A pipeline stage of a type that this version does not implement.
    case unknownStage(file: String, path: String, type: String, known: [String])
    /// A regular expression that Oniguruma refuses, or that fails while it is matched.
    case invalidRegex(pattern: String, reason: String)
    /// A setting that is known but not supported here.
    case unsupported(file: String, path: String, found: String, remedy: String)
    /// The file gives an added token an id that differs from the one its place implies.
    case addedTokenMismatch(file: String, token: String, expected: Int, found: Int)
    /// A token that the vocabulary lacks is named by another part of the file.
    case missingToken(file: String, path: String, token: String)
    /// A part of a text that the vocabulary lacks, where it has no token for such parts either.
    case unknownText(text: String)
    /// An id that no token has.
    case unknownID(id: Int, vocabularySize: Int)

    /// What, where, expected, found, and what to do.
    public var description: String {
        switch self {
        case .unreadableFile(let file, let reason):
            "\(file): cannot be read: \(reason)"
        case .invalidJSON(let file, let reason):
            "\(file): \(reason)"
        case .invalidField(let file, let path, let expected, let found):
            "\(file): \(path): expected \(expected), found \(found)"
        case .unknownStage(let file, let path, let type, let known):
            "\(file): \(path): the type \"\(type)\" is not supported; known types: "
                + known.sorted().joined(separator: ", ")
        case .invalidRegex(let pattern, let reason):
            "the regular expression \(pattern) failed: \(reason)"
        case .unsupported(let file, let path, let found, let remedy):
            "\(file): \(path): \(found) is not supported; \(remedy)"
        case .addedTokenMismatch(let file, let token, let expected, let found):
            "\(file): added_tokens: \"\(token)\" would get id \(expected) from its place, "
                + "the file says \(found); save the tokenizer again with Hugging Face tokenizers"
        case .missingToken(let file, let path, let token):
            "\(file): \(path): the token \"\(token)\" is not in the vocabulary"
        case .unknownText(let text):
            "the vocabulary has no token for \"\(text)\" and names none for unknown text; "
                + "add an unknown token, or leave such text out"
        case .unknownID(let id, let vocabularySize):
            "token id \(id) is not in the vocabulary of \(vocabularySize) tokens; "
                + "do the ids come from another tokenizer?"
        }
    }
}
