import Foundation
import Torch

/// The tensors of a Hugging Face folder.
final class HuggingFaceStore: TensorStore {
    let weights: ShardedSafetensors
    let shapes: [String: [Int]]

    init(_ weights: ShardedSafetensors) {
        self.weights = weights
        var shapes: [String: [Int]] = [:]
        for file in weights.files {
            for entry in file.entries { shapes[entry.name] = entry.shape }
        }
        self.shapes = shapes
    }

    var path: String { weights.folder.path }

    func storage(of name: String) -> String {
        weights.entry(name)?.dtype.rawValue ?? "nothing"
    }

    func isFloatingPoint(_ name: String) -> Bool {
        weights.entry(name)?.dtype.dtype?.isFloatingPoint ?? false
    }

    func load(_ range: Range<Int>, of name: String) throws -> Tensor {
        guard let (file, entry) = weights.location(name) else {
            throw CheckpointError.tensors(
                path: path, problems: [.missing(name: name, expected: [])])
        }
        return try file.tensor(entry, elements: range)
    }

    /// Two kinds of tensors that old or tied checkpoints store and no model reads.
    ///
    /// Rotary frequencies follow from the configuration. A head that equals the embedding byte for byte is what
    /// tying means; one that differs is an unexpected tensor.
    func isHarmless(_ name: String) throws -> Bool {
        if name.hasSuffix(".rotary_emb.inv_freq") { return true }
        guard name == "lm_head.weight", let head = weights.location(name),
            let embedding = weights.location("model.embed_tokens.weight"),
            head.entry.dtype == embedding.entry.dtype, head.entry.shape == embedding.entry.shape
        else { return false }
        return head.file.withBytes(of: head.entry) { bytes in
            embedding.file.withBytes(of: embedding.entry) { $0.holdsSameBytes(as: bytes) }
        }
    }
}
