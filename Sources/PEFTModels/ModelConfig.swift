public import Foundation

/// The part of a Hugging Face `config.json` that a family needs; keys that the file omits keep the declared defaults.
public protocol ModelConfig: Codable, Hashable, Sendable {
    /// Makes the family's defaults.
    init()
    /// Refuses values that the family's mathematics here does not cover.
    func validate() throws(ModelError)
}

extension ModelConfig {
    /// Reads a `config.json`, whose snake_case keys map to lowerCamelCase properties.
    ///
    /// - Parameter data: the file.
    /// - Returns: the validated configuration.
    /// - Throws: ``ModelError`` naming the first key that does not fit.
    public static func read(_ data: Data) throws(ModelError) -> Self {
        let config: Self
        do {
            let encoder = JSONEncoder()
            encoder.keyEncodingStrategy = .convertToSnakeCase
            let decoder = JSONDecoder()
            decoder.keyDecodingStrategy = .convertFromSnakeCase
            let defaults = try JSONSerialization.jsonObject(with: encoder.encode(Self()))
            let file = try JSONSerialization.jsonObject(with: data)
            guard let defaults = defaults as? [String: Any], let file = file as? [String: Any]
            else {
                throw ModelError.invalidConfiguration(
                    key: "(file)", found: "another JSON value", expected: "an object")
            }
            let present = file.filter { !($0.value is NSNull) }
            let merged = defaults.merging(present) { $1 }
            config = try decoder.decode(
                Self.self, from: JSONSerialization.data(withJSONObject: merged))
        } catch let error as ModelError {
            throw error
        } catch let error as DecodingError {
            throw error.asModelError
        } catch {
            throw ModelError.invalidConfiguration(
                key: "(file)", found: "\(error.localizedDescription)", expected: "valid JSON")
        }
        try config.validate()
        return config
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
