import Foundation
import PEFTModels
import PEFTQuantization
import Torch

/// The tensors of a Hugging Face folder.
final class HuggingFaceStore: TensorStore {
    let weights: ShardedSafetensors
    let shapes: [String: [Int]]
    private let conventions: FileConventions
    /// The names in the files, where they are others.
    private let storedNames: [String: String]
    /// The tensors that the files hold in pieces.
    private let wholes: [String: PiecedTensor]
    /// The weights in 4 bits, under the names in the files.
    private let fourBit: StoredFourBit
    /// The weights in 8 bits, under the names in the files.
    private let int8: StoredInt8

    /// Opens the files of a folder.
    ///
    /// - Parameters:
    ///   - weights: the files.
    ///   - conventions: how they differ from the model.
    /// - Throws: `CheckpointError` if quantized weights are not whole; `CheckpointError.tensors` with every tensor that is missing among those
    ///   of single experts, or has another shape.
    init(
        _ weights: ShardedSafetensors, conventions: FileConventions = FileConventions()
    ) throws(CheckpointError) {
        self.weights = weights
        self.conventions = conventions
        let fourBit = try StoredFourBit(weights)
        let int8 = try StoredInt8(weights)
        (self.fourBit, self.int8) = (fourBit, int8)
        let parts = fourBit.parts.union(int8.parts)
        let entries = weights.files.flatMap(\.entries).filter { !parts.contains($0.name) }
        let base = conventions.names.base + "."
        let omitsBase =
            conventions.mayOmitBase && !entries.contains { $0.name.hasPrefix(base) }
        var shapes: [String: [Int]] = [:]
        var storedNames: [String: String] = [:]
        for entry in entries {
            let isInside = omitsBase && !entry.name.hasPrefix(conventions.names.head + ".")
            let name = conventions.renamed(isInside ? base + entry.name : entry.name)
            if name != entry.name { storedNames[name] = entry.name }
            if let shape = fourBit.weights[entry.name]?.state.shape
                ?? int8.weights[entry.name]?.shape
            {
                shapes[name] = shape
                continue
            }
            let isTransposed = conventions.isTransposed(name, shape: entry.shape)
            shapes[name] = isTransposed ? entry.shape.reversed() : entry.shape
        }
        let (wholes, problems) = PiecedTensor.experts(
            in: shapes, modules: conventions.expertModules)
        guard problems.isEmpty else {
            throw .tensors(path: weights.folder.path, problems: problems)
        }
        for (name, whole) in wholes {
            for piece in whole.pieces { shapes[piece.name] = nil }
            shapes[name] = whole.shape
        }
        self.shapes = shapes
        self.storedNames = storedNames
        self.wholes = wholes
    }

    var path: String { weights.folder.path }

    func storage(of name: String) -> String {
        if let whole = wholes[name] { return whole.pieces.first.map { storage(of: $0.name) } ?? "" }
        switch quantizedParts(of: name)?.storage {
        case .fourBit(let config): return config.quantType.rawValue
        case .int8: return "int8"
        case nil: break
        }
        return weights.entry(stored(name))?.dtype.rawValue ?? "nothing"
    }

    func isFloatingPoint(_ name: String) -> Bool {
        if let whole = wholes[name] { return whole.pieces.allSatisfy { isFloatingPoint($0.name) } }
        return quantizedParts(of: name) != nil
            || weights.entry(stored(name))?.dtype.dtype?.isFloatingPoint ?? false
    }

    func quantizedParts(of name: String) -> QuantizedParts? {
        if let weight = fourBit.weights[stored(name)] { return .fourBit(fourBit.parts(of: weight)) }
        return int8.weights[stored(name)].map { .int8(int8.parts(of: $0)) }
    }

    func isPieced(_ name: String) -> Bool { wholes[name] != nil }

    private func stored(_ name: String) -> String { storedNames[name] ?? name }

    func load(_ range: Range<Int>, of name: String) throws -> Tensor {
        if let whole = wholes[name] { return try whole.load(range) { try load($0, of: $1) } }
        if let weight = fourBit.weights[stored(name)] {
            return try fourBit.decoded(range, of: weight)
        }
        if let weight = int8.weights[stored(name)] {
            return try int8.decoded(range, of: weight)
        }
        guard let (file, entry) = weights.location(stored(name)) else {
            throw CheckpointError.tensors(
                path: path, problems: [.missing(name: name, expected: [])])
        }
        guard conventions.isTransposed(name, shape: entry.shape), !range.isEmpty else {
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

    /// Three kinds of tensors that old or tied checkpoints store and no model reads.
    ///
    /// Rotary frequencies and causal masks follow from the configuration. A head that equals the embedding byte for byte is what
    /// tying means; one that differs is an unexpected tensor.
    func isHarmless(_ name: String) throws -> Bool {
        if name.hasSuffix(".rotary_emb.inv_freq") { return true }
        let names = conventions.names
        if shapes[name]?.count != 1, conventions.masks.contains(where: { name.hasSuffix("." + $0) })
        {
            return true
        }
        guard name == names.head + ".weight", let head = weights.location(name),
            let embedding = weights.location(stored("\(names.base).\(names.embedding).weight")),
            head.entry.dtype == embedding.entry.dtype, head.entry.shape == embedding.entry.shape
        else { return false }
        return head.file.withBytes(of: head.entry) { bytes in
            embedding.file.withBytes(of: embedding.entry) { $0.holdsSameBytes(as: bytes) }
        }
    }
}
