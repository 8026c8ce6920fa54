package import Foundation
import PEFTQuantization
package import Torch

/// Writes low-rank adapters as GGUF files for llama.cpp.
///
/// - Source: llama.cpp convert_lora_to_gguf.py (names, metadata); src/llama-adapter.cpp, which scales a layer by `alpha / r`.
package struct GGUFAdapterWriter {
    /// The update of one layer: `scale * B A`.
    package struct Layer {
        /// The Hugging Face path of the layer.
        package let path: String
        /// float32 `[r, inFeatures]`.
        package let a: Tensor
        /// float32 `[outFeatures, r]`.
        package let b: Tensor
        /// What multiplies the product.
        package let scale: Double

        /// Describes an update.
        package init(path: String, a: Tensor, b: Tensor, scale: Double) {
            self.path = path
            self.a = a
            self.b = b
            self.scale = scale
        }

        /// What llama.cpp divides by the rank.
        fileprivate var alpha: Double { scale * Double(a.shape[0]) }
    }

    private struct Keys: Decodable {
        let modelType: String?
        let numAttentionHeads: Int?
        let numKeyValueHeads: Int?
    }

    private let name: String
    private let architecture: GGUFArchitecture
    private let numHeads: Int
    private let numKeyValueHeads: Int
    private let path: String

    /// Finds llama.cpp's names for the layers of a base model.
    ///
    /// - Parameter base: a GGUF file, or a folder that llama.cpp's converter reads.
    /// - Throws: `CheckpointError.unsupported` for a family without GGUF names here.
    package init(base: BaseModelFiles) throws {
        path = base.url.path
        let decoder = JSONDecoder()
        decoder.keyDecodingStrategy = .convertFromSnakeCase
        let keys = try decoder.decode(Keys.self, from: base.configuration)
        let type = keys.modelType ?? "none"
        guard let (name, architecture) = GGUFArchitecture.named(forModelType: type) else {
            throw CheckpointError.unsupported(
                path: path, reason: "the family \(type) has no names in GGUF files here",
                remedy: "supported are "
                    + GGUFArchitecture.table.values.map(\.modelType).sorted()
                    .joined(separator: ", "))
        }
        self.name = name
        self.architecture = architecture
        numHeads = keys.numAttentionHeads ?? 0
        numKeyValueHeads = keys.numKeyValueHeads ?? numHeads
    }

    /// Writes an adapter in float32, whole or not at all.
    ///
    /// A file has one alpha; where layers have several, B takes over the rest of the factor.
    ///
    /// - Parameters:
    ///   - layers: the updates, in the model's order.
    ///   - url: the file to create.
    /// - Returns: the size of the file.
    /// - Throws: `CheckpointError`: a layer has no name in GGUF files, or the disk refuses.
    package func write(_ layers: [Layer], to url: URL) throws -> Int {
        let alpha = layers.first?.alpha ?? 1
        let entries = [
            GGUFEntry("general.architecture", name), GGUFEntry("general.type", "adapter"),
            GGUFEntry("adapter.type", "lora"), GGUFEntry("adapter.lora.alpha", Float(alpha)),
            GGUFEntry("general.file_type", UInt32(0)),
            GGUFEntry("general.quantization_version", UInt32(2)),
        ]
        let tensors = try layers.flatMap { try self.tensors($0, alpha: alpha) }
        return try GGUFWriter.write(entries, tensors, to: url)
    }

    private func tensors(_ layer: Layer, alpha: Double) throws -> [GGUFTensor] {
        guard let stored = architecture.storedName(ofPath: layer.path) else {
            throw CheckpointError.unsupported(
                path: path, reason: "the layer \(layer.path) has no name in GGUF files",
                remedy: "merge the adapter instead: peft merge")
        }
        let name = stored + ".weight"
        let factor = layer.alpha / alpha
        let rows = try architecture.storedOrder(
            layer.b, of: name, numHeads: numHeads, numKeyValueHeads: numKeyValueHeads, path: path)
        let b = factor == 1 ? rows : try rows * factor
        return [(".lora_a", try layer.a.contiguous()), (".lora_b", b)].map { suffix, tensor in
            GGUFTensor(
                name: name + suffix, type: GGUFTensorType(GGUFBlockFormat.f32), shape: tensor.shape
            ) {
                try tensor.withUnsafeBytes($0)
            }
        }
    }
}
