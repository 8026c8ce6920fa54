public import Foundation
public import PEFTLayers

/// The part of a Hugging Face `config.json` that a family needs, and the model that it describes.
///
/// A family declares the keys that it alone has, which its `CodingKeys` name, and sets ``decoder`` to its own defaults in `init()`.
/// Keys that the file omits keep these defaults.
public protocol ModelConfig: Codable, Hashable, Sendable {
    /// What it builds.
    associatedtype Model: CausalLanguageModel

    /// The keys that families share.
    var decoder: DecoderConfig { get set }
    /// Keys that the family's files have for shared ones, as in transformers' `attribute_map`.
    static var attributeMap: [String: String] { get }
    /// Names, and what the files hold otherwise than the model.
    static var files: FileConventions { get }
    /// Makes the family's defaults.
    init()
    /// Refuses values that the family's mathematics here does not cover.
    func validate() throws(ModelError)
    /// Builds the model, asking the scope's source for each tensor once.
    ///
    /// - Throws: the source's error.
    func makeModel(_ scope: Scope) throws -> Model
}

extension ModelConfig {
    /// None.
    public static var attributeMap: [String: String] { [:] }
    /// Llama's.
    public static var files: FileConventions { FileConventions() }
    /// Accepts all values.
    public func validate() throws(ModelError) {}

    /// Reads a `config.json`, whose snake_case keys map to lowerCamelCase properties.
    ///
    /// - Parameter data: the file.
    /// - Returns: the validated configuration.
    /// - Throws: ``ModelError`` naming the first key that does not fit.
    public static func read(_ data: Data) throws(ModelError) -> Self {
        var config: Self
        do {
            let merged = try JSONSerialization.data(withJSONObject: merged(with: data))
            let decoder = JSONDecoder()
            decoder.keyDecodingStrategy = .convertFromSnakeCase
            config = try decoder.decode(Self.self, from: merged)
            config.decoder = try decoder.decode(DecoderConfig.self, from: merged)
        } catch let error as ModelError {
            throw error
        } catch let error as DecodingError {
            throw error.asModelError
        } catch {
            throw ModelError.invalidConfiguration(
                key: "(file)", found: "\(error.localizedDescription)", expected: "valid JSON")
        }
        try config.decoder.validate()
        try config.validate()
        return config
    }

    /// The family's defaults with what a file says in their place; its null overrides a default too.
    private static func merged(with data: Data) throws -> [String: Any] {
        let encoder = JSONEncoder()
        encoder.keyEncodingStrategy = .convertToSnakeCase
        let defaults = Self()
        let objects = try [encoder.encode(defaults.decoder), encoder.encode(defaults), data].map {
            try JSONSerialization.jsonObject(with: $0) as? [String: Any]
        }
        guard let shared = objects[0], let own = objects[1], var file = objects[2] else {
            throw ModelError.invalidConfiguration(
                key: "(file)", found: "another JSON value", expected: "an object")
        }
        for (key, sharedKey) in attributeMap {
            if let value = file[key] { file[sharedKey] = value }
        }
        return shared.merging(own) { $1 }.merging(file) { $1 }
    }
}

extension DecodingError {
    /// The key and the types of a failed decoding.
    fileprivate var asModelError: ModelError {
        func key(_ context: Context) -> String {
            context.codingPath.map(\.stringValue).joined(separator: ".")
        }
        switch self {
        case .typeMismatch(let type, let context), .valueNotFound(let type, let context):
            return .invalidConfiguration(
                key: key(context), found: "another type", expected: "\(type)")
        case .keyNotFound(let missing, _):
            return .invalidConfiguration(
                key: missing.stringValue, found: "nothing", expected: "a value")
        case .dataCorrupted(let context):
            return .invalidConfiguration(
                key: key(context), found: context.debugDescription, expected: "a valid value")
        @unknown default:
            return .invalidConfiguration(
                key: "(file)", found: "\(self)", expected: "a valid value")
        }
    }
}
