/// A model configuration that cannot be built.
public enum ModelError: Error, Equatable, Sendable, CustomStringConvertible {
    /// The configuration is not what its family needs.
    case invalidConfiguration(key: String, found: String, expected: String)
    /// No family has this `model_type`.
    case unknownModelType(String?, known: [String])
    /// A family is registered under a `model_type` that another one has.
    case modelTypeTaken(String)
    /// A model is to be made of blocks that its files do not have, or that its family does not know of.
    case noSuchBlock(Int, numBlocks: Int)

    /// What, where, expected, found and the remedy in one sentence.
    public var description: String {
        switch self {
        case .invalidConfiguration(let key, let found, let expected):
            "config.json: \(key): expected \(expected), found \(found)"
        case .unknownModelType(let found, let known):
            """
            config.json: model_type: found \(found.map { "\"\($0)\"" } ?? "none"), but only \
            \(known.joined(separator: ", ")) can be built; choose a model of these families
            """
        case .modelTypeTaken(let type):
            "model_type \"\(type)\" has a family already; register yours under a name of its own"
        case .noSuchBlock(let found, let numBlocks):
            """
            layer_replication: expected ranges within the base model's blocks 0..<\(numBlocks), found block \
            \(found); give ranges [from, to] in which to is at most \(numBlocks)
            """
        }
    }
}
