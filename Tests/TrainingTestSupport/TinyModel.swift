package import Foundation
package import PEFT
import TestSupport

/// Tiny models on disk.
package enum TinyModel {
    /// A model of the fixtures, without tokenizer: vocabulary 50, two blocks, tied head.
    package static var tied: String { Checkout.fixture("models/tied").path }
    /// A model of the fixtures, without tokenizer: vocabulary 61, grouped heads, odd sizes.
    package static var grouped: String { Checkout.fixture("models/grouped").path }

    /// A model of the fixtures, without tokenizer: vocabulary 33, three blocks, biases.
    package static var biased: String { Checkout.fixture("models/biased").path }

    /// Copies a model of the fixtures with changed tensors.
    ///
    /// - Parameters:
    ///   - model: the folder to copy.
    ///   - folder: is made.
    ///   - change: gives each tensor by its name.
    /// - Returns: the folder's path.
    /// - Throws: what `change` throws, or an error of the file system.
    package static func copy(
        of model: String, to folder: URL, change: (String, Tensor) throws -> Tensor
    ) throws -> String {
        try FileManager.default.createDirectory(
            at: folder, withIntermediateDirectories: false)
        try FileManager.default.copyItem(
            atPath: model + "/config.json", toPath: folder.path + "/config.json")
        let file = try SafetensorsFile(URL(filePath: model + "/model.safetensors"))
        let tensors = try file.entries.map { entry in
            SafetensorsTensor(
                name: entry.name, try change(entry.name, try file.tensor(entry).clone()))
        }
        try SafetensorsWriter.write(tensors, to: folder.appending(path: "model.safetensors"))
        return folder.path
    }

    /// A copy of ``grouped`` whose embedding of one token is NaN.
    package static func grouped(damagedAt token: Int, in workspace: Workspace) throws -> String {
        try copy(of: grouped, to: workspace.url.appending(path: "model")) { name, tensor in
            if name == "model.embed_tokens.weight" {
                try withoutGrad { try tensor.narrow(0, token, 1).fillInPlace(.nan) }
            }
            return tensor
        }
    }

    /// Writes a random model with a tokenizer of 400 tokens and a chat template into a folder.
    ///
    /// - Parameters:
    ///   - folder: is made.
    ///   - change: may change each tensor by its name before it is written.
    /// - Returns: the folder's path.
    /// - Throws: what `change` throws, or an error of the file system.
    @discardableResult
    package static func write(
        to folder: URL, change: (String, Tensor) throws -> Tensor = { $1 }
    ) throws -> String {
        try FileManager.default.copyItem(at: Checkout.fixture("data/tokenizer"), to: folder)
        let config = Data(
            """
            {"model_type": "llama", "vocab_size": 400, "hidden_size": 32, "intermediate_size": 48, \
            "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, \
            "max_position_embeddings": 256, "rms_norm_eps": 1e-6, "tie_word_embeddings": true, \
            "bos_token_id": 1, "eos_token_id": 2}
            """.utf8)
        try config.write(to: folder.appending(path: "config.json"))
        let shapes = ShapeSource()
        _ = try ModelRegistry.makeModel(
            config: config, Scope(registry: ModuleRegistry(), source: shapes))
        let random = RandomSource(seed: 5, standardDeviation: 0.2)
        let tensors = try shapes.shapes.sorted { $0.key < $1.key }.map { name, shape in
            SafetensorsTensor(
                name: name, try change(name, try random.tensor(at: name, shape: shape)))
        }
        try SafetensorsWriter.write(tensors, to: folder.appending(path: "model.safetensors"))
        return folder.path
    }
}
