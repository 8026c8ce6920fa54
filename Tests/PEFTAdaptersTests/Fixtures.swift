import Foundation
import PEFTAdapters
import PEFTLayers
import TestSupport
import Testing
import Torch

/// What PEFT does, as `scripts/fixtures/adapters.py` recorded it.
enum Fixtures {
    /// Linear layers of the models that the target cases refer to.
    struct Linears: Decodable {
        let model: String
        let paths: [String]
    }

    /// The layers that PEFT adapts for a configuration; none where PEFT refuses.
    struct TargetCase: Decodable, CustomTestStringConvertible {
        struct Layer: Decodable, Equatable {
            let path: String
            let rank: Int
            let alpha: Double
            let scaling: Double

            init(path: String, rank: Int, alpha: Double, scaling: Double) {
                self.path = path
                self.rank = rank
                self.alpha = alpha
                self.scaling = scaling
            }

            init(from decoder: any Decoder) throws {
                var values = try decoder.unkeyedContainer()
                path = try values.decode(String.self)
                rank = try values.decode(Int.self)
                alpha = try values.decode(Double.self)
                scaling = try values.decode(Double.self)
            }
        }

        let name: String
        let model: String
        let config: LoRAConfig
        let layers: [Layer]
        let targetModules: ConfigValue?

        var testDescription: String { name }
    }

    /// Input, parameters, output and gradients of one adapted layer.
    struct LayerCase: Decodable, CustomTestStringConvertible {
        let name: String
        let numTokens: Int
        let inFeatures: Int
        let outFeatures: Int
        let config: LoRAConfig
        let arrays: [String: [Float]]

        var testDescription: String { name }
    }

    /// The tensors of an adapter file for a two-layer Llama.
    struct TensorNames: Decodable, CustomTestStringConvertible {
        let config: LoRAConfig
        let shapes: [String: [Int]]

        var testDescription: String { "\(config.coding("target_modules"))" }
    }

    static let linears = Dictionary(
        uniqueKeysWithValues: read([Linears].self, "linears").map { ($0.model, $0.paths) })
    static let targetCases = read([TargetCase].self, "targets")
    static let layerCases = read([LayerCase].self, "layers")
    static let tensorNames = read([TensorNames].self, "tensor-names")
    static let configs = [
        "default", "common", "regex", "patterns", "single-values", "no-initialization", "text",
    ]

    static func config(_ name: String) throws -> Data {
        try Data(contentsOf: Checkout.fixture("adapters/configs/\(name).json"))
    }

    private static func read<Cases: Decodable & RangeReplaceableCollection>(
        _ type: Cases.Type, _ name: String
    ) -> Cases {
        let url = Checkout.fixture("adapters/\(name).json")
        // A missing or unreadable file leaves no cases, which `FixtureTests` reports.
        guard let data = try? Data(contentsOf: url),
            let cases = try? JSONDecoder().decode(type, from: data)
        else { return Cases() }
        return cases
    }
}

extension LoRAConfig {
    /// The value that is written for a key.
    func coding(_ key: String) -> ConfigValue {
        guard case .object(let members) = Self.coding.write(self) else { return .null }
        return members[key] ?? .null
    }
}
