import Foundation
import Torch

/// The tensors of a Hugging Face folder.
final class HuggingFaceStore: TensorStore {
    let weights: ShardedSafetensors
    let shapes: [String: [Int]]
    private let transposed: Set<String>

    /// Opens the files of a folder.
    ///
    /// - Parameters:
    ///   - weights: the files.
    ///   - linears: the last parts of the paths of linears whose weights are stored as `[inFeatures, outFeatures]`.
    init(_ weights: ShardedSafetensors, transposing linears: Set<String> = []) {
        self.weights = weights
        var shapes: [String: [Int]] = [:]
        var transposed: Set<String> = []
        for entry in weights.files.flatMap(\.entries) {
            let parts = entry.name.split(separator: ".")
            let isTransposed =
                entry.shape.count == 2 && parts.last == "weight"
                && linears.contains { $0 == parts.dropLast().last ?? "" }
            if isTransposed { transposed.insert(entry.name) }
            shapes[entry.name] = isTransposed ? entry.shape.reversed() : entry.shape
        }
        self.shapes = shapes
        self.transposed = transposed
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
        guard transposed.contains(name), !range.isEmpty else {
            return try file.tensor(entry, elements: range)
        }
        let stored = try file.tensor(entry, elements: 0..<entry.shape[0] * entry.shape[1])
            .reshape(entry.shape)
        return try Self.transposedElements(range, of: stored)
    }

    /// Elements of `stored^T`, row-major; the columns that hold them are copied.
    private static func transposedElements(
        _ range: Range<Int>, of stored: Tensor
    ) throws(TorchError) -> Tensor {
        let width = stored.shape[0]
        let rows = range.lowerBound / width..<(range.upperBound + width - 1) / width
        let columns = try stored.narrow(1, rows.lowerBound, rows.count)
        let result = try Tensor.empty([rows.count, width], dtype: stored.dtype)
        try result.copyInPlace(from: columns.transposed(0, 1))
        return try result.reshape([-1])
            .narrow(0, range.lowerBound - rows.lowerBound * width, range.count)
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
            embedding.file.withBytes(of: embedding.entry) { $0.elementsEqual(bytes) }
        }
    }
}
