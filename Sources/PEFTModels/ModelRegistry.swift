public import Foundation
public import PEFTLayers
import Synchronization

/// The families that can be built, by the `model_type` of a Hugging Face `config.json`.
public enum ModelRegistry {
    private static let builtIn: [String: any ModelConfig.Type] = [
        "gemma2": Gemma2Config.self,
        "gemma3_text": Gemma3Config.self,
        "gpt2": GPT2Config.self,
        "gpt_neox": GPTNeoXConfig.self,
        "granite": GraniteConfig.self,
        "llama": LlamaConfig.self,
        "ministral": MinistralConfig.self,
        "mistral": MistralConfig.self,
        "mixtral": MixtralConfig.self,
        "olmo2": Olmo2Config.self,
        "olmoe": OlmoeConfig.self,
        "phi3": Phi3Config.self,
        "qwen2": Qwen2Config.self,
        "qwen3": Qwen3Config.self,
        "qwen3_moe": Qwen3MoeConfig.self,
        "smollm3": SmolLM3Config.self,
    ]

    private static let families = Mutex(builtIn)

    /// The known model types, sorted.
    public static var modelTypes: [String] { families.withLock { $0.keys.sorted() } }

    /// Adds a family of one's own, for the whole process: from then on every stage and command reads such models.
    ///
    /// - Parameters:
    ///   - config: the family's configuration.
    ///   - modelType: the `model_type` of its `config.json`.
    /// - Throws: ``ModelError/modelTypeTaken(_:)`` if another family has it.
    public static func register(
        _ config: any ModelConfig.Type, as modelType: String
    ) throws(ModelError) {
        let isFree = families.withLock { families in
            let known = families[modelType]
            if known == nil { families[modelType] = config }
            return known == nil || known == config
        }
        guard isFree else { throw .modelTypeTaken(modelType) }
    }

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
        let model = try family(of: config).config.read(config).makeModel(scope)
        if let order = scope.registry.blockOrder?.blocks, order.count != model.units.count {
            throw ModelError.noSuchBlock(order.count - 1, numBlocks: model.units.count)
        }
        return model
    }

    /// The family of a configuration.
    ///
    /// - Parameter config: a `config.json`.
    /// - Returns: its `model_type`, one of ``modelTypes``.
    /// - Throws: ``ModelError/unknownModelType(_:known:)`` for any other, or none.
    public static func familyName(_ config: Data) throws(ModelError) -> String {
        try family(of: config).type
    }

    /// How the Hugging Face files of a configuration's model differ from it.
    ///
    /// - Parameter config: a `config.json`.
    /// - Returns: the family's conventions; Llama's for a family that is not known.
    public static func fileConventions(_ config: Data) -> FileConventions {
        (try? family(of: config))?.config.files ?? FileConventions()
    }

    private static func family(
        of config: Data
    ) throws(ModelError) -> (type: String, config: any ModelConfig.Type) {
        let type = try modelType(config)
        guard let type, let config = families.withLock({ $0[type] }) else {
            throw ModelError.unknownModelType(type, known: modelTypes)
        }
        return (type, config)
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
