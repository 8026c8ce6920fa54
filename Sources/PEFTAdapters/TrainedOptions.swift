/// Which of the base's biases are trained.
public enum TrainedBiases: String, Codable, Hashable, Sendable, CaseIterable {
    /// None of them.
    case none
    /// All that the model has, those of norms among them.
    case all
    /// Those of the linear layers that get an adapter.
    case loraOnly = "lora_only"
}

extension TrainedBiases: ConfigRepresentable {
    static var expectedValue: String { "one of \"none\", \"all\", \"lora_only\"" }

    init?(configValue: ConfigValue) {
        guard case .string(let name) = configValue else { return nil }
        self.init(rawValue: name)
    }

    var configValue: ConfigValue { .string(rawValue) }
}

/// The tokens whose rows are trained.
public enum TrainedTokenIndices: Hashable, Sendable {
    /// Rows of the input embedding.
    case embedding([Int])
    /// Rows of the layers whose paths end with the names.
    case layers([String: [Int]])

    /// The lists of tokens, by the names of their layers in order.
    package var lists: [[Int]] {
        switch self {
        case .embedding(let tokens): [tokens]
        case .layers(let layers): layers.sorted { $0.key < $1.key }.map(\.value)
        }
    }
}

extension TrainedTokenIndices: Codable {
    /// Reads a list of tokens, or an object of such by layer.
    public init(from decoder: any Decoder) throws {
        let container = try decoder.singleValueContainer()
        if let tokens = try? container.decode([Int].self) {
            self = .embedding(tokens)
        } else {
            self = .layers(try container.decode([String: [Int]].self))
        }
    }

    /// Writes what was read.
    public func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        switch self {
        case .embedding(let tokens): try container.encode(tokens)
        case .layers(let layers): try container.encode(layers)
        }
    }
}

extension TrainedTokenIndices: ConfigRepresentable {
    static var expectedValue: String { "a list of tokens, or an object of such by layer" }

    init?(configValue: ConfigValue) {
        if let tokens = [Int](configValue: configValue) {
            self = .embedding(tokens)
        } else if case .object = configValue,
            let layers = [String: [Int]](configValue: configValue)
        {
            self = .layers(layers)
        } else {
            return nil
        }
    }

    var configValue: ConfigValue {
        switch self {
        case .embedding(let tokens): tokens.configValue
        case .layers(let layers): layers.configValue
        }
    }
}
