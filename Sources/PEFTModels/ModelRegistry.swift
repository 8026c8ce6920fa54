public import Foundation
public import PEFTLayers

/// The families that can be built, by the `model_type` of a Hugging Face `config.json`.
public enum ModelRegistry {
    private typealias Build = @Sendable (Data, Scope) throws -> any CausalLanguageModel

    private static let families: [String: Build] = [
        "llama": { try LlamaModel(LlamaConfig.read($0), $1) }
    ]

    /// The known model types, sorted.
    public static var modelTypes: [String] { families.keys.sorted() }

    /// Builds the model of a configuration, asking the scope's source for every tensor once.
    ///
    /// - Parameters:
    ///   - config: a `config.json`.
    ///   - scope: the root of the new model.
    /// - Returns: the model, frozen.
    /// - Throws: ``ModelError``, or the source's error.
    public static func makeModel(
        config: Data, _ scope: Scope
    ) throws -> any CausalLanguageModel {
        try family(of: config).build(config, scope)
    }

    /// The family of a configuration.
    ///
    /// - Parameter config: a `config.json`.
    /// - Returns: its `model_type`, one of ``modelTypes``.
    /// - Throws: ``ModelError/unknownModelType(_:known:)`` for any other, or none.
    public static func familyName(_ config: Data) throws(ModelError) -> String {
        try family(of: config).type
    }

    private static func family(
        of config: Data
    ) throws(ModelError) -> (type: String, build: Build) {
        let type = try modelType(config)
        guard let type, let build = families[type] else {
            throw ModelError.unknownModelType(type, known: modelTypes)
        }
        return (type, build)
    }

    private static func modelType(_ config: Data) throws(ModelError) -> String? {
        struct Header: Decodable {
            let modelType: String?

            enum CodingKeys: String, CodingKey {
                case modelType = "model_type"
            }
        }
        do {
            return try JSONDecoder().decode(Header.self, from: config).modelType
        } catch {
            throw ModelError.invalidConfiguration(
                key: "(file)", found: "\(error)", expected: "a JSON object with model_type")
        }
    }
}
