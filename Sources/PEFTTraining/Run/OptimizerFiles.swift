import Foundation
import PEFTCheckpoints
import PEFTLayers
import PEFTSharding
import Torch

/// The optimizer's state in a checkpoint, whatever number of processes wrote it.
///
/// One process writes whole tensors. Of several, each writes the pieces that it updates, flat, into a file of its own,
/// `optimizer-00002-of-00004.safetensors`, whose metadata says of each piece which elements of its tensor it is. What several
/// processes keep alike is in the file of each. Any number of processes reads either.
struct OptimizerFiles {
    /// The checkpoint's folder.
    let folder: URL

    private static let prefix = "optimizer"
    private static let suffix = ".safetensors"

    /// Writes what this process updates.
    ///
    /// - Throws: `CheckpointError.cannotWrite`.
    func write(_ optimizer: Optimizer, of ready: ReadyModel) throws {
        let ranks = ready.ranks
        guard ranks.countsOnce else { return }
        var metadata = SafetensorsWriter.metadataOfTorch
        var name = Self.prefix + Self.suffix
        if ranks.numShards > 1 {
            for entry in optimizer.state {
                let range = entry.layout.range
                metadata[entry.name] = "\(range.lowerBound):\(range.upperBound)"
            }
            name = String(
                format: "%@-%05d-of-%05d%@", Self.prefix, ranks.rank + 1, ranks.numShards,
                Self.suffix)
        }
        try SafetensorsWriter.write(
            optimizer.state.enumerated().map { position, entry in
                SafetensorsTensor(
                    name: entry.name, shape: entry.layout.shape, dtype: entry.layout.dtype
                ) {
                    try optimizer.reading(position) { try $0.clone() }
                }
            },
            metadata: metadata, to: folder.appending(path: name))
    }

    /// Fills the state of what this process updates.
    ///
    /// - Parameters:
    ///   - optimizer: made from the ready model.
    ///   - ready: the model.
    ///   - step: updates that the state has seen.
    /// - Throws: `CheckpointError` naming every tensor that does not fit.
    func restore(_ optimizer: Optimizer, of ready: ReadyModel, step: Int) throws {
        let files = try FileManager.default.contentsOfDirectory(atPath: folder.path)
            .filter { $0.hasPrefix(Self.prefix) && $0.hasSuffix(Self.suffix) }.sorted()
            .map { try SafetensorsFile(folder.appending(path: $0)) }
        if let only = files.first, files.count == 1, ready.ranks.numShards == 1 {
            let tensors = try only.tensors(
                expected: Dictionary(
                    uniqueKeysWithValues: optimizer.state.map { ($0.name, $0.layout.shape) }),
                dtypes: Dictionary(
                    uniqueKeysWithValues: optimizer.state.map { ($0.name, $0.layout.dtype) }))
            return try withoutGrad { try optimizer.restore(tensors, step: step) }
        }
        var tensors: [String: Tensor] = [:]
        var problems: [TensorProblem] = []
        for entry in optimizer.state {
            let found = try Self.read(entry.layout, entry.name, from: files)
            tensors[entry.name] = try found?.reshape(entry.layout.shape)
            if found == nil {
                problems.append(.missing(name: entry.name, expected: entry.layout.wholeShape))
            }
        }
        guard problems.isEmpty else {
            throw CheckpointError.tensors(path: folder.path, problems: problems)
        }
        try withoutGrad { try optimizer.restore(tensors, step: step) }
    }

    /// The elements of a piece, out of all files; nil if some are nowhere.
    private static func read(
        _ piece: StateTensor, _ name: String, from files: [SafetensorsFile]
    ) throws -> Tensor? {
        let result = try Tensor.zeros([piece.range.count], dtype: piece.dtype)
        var numFound = 0
        for file in files where numFound < piece.range.count {
            guard let entry = file.entry(name), entry.dtype.dtype == piece.dtype else { continue }
            let count = entry.shape.reduce(1, *)
            let stored = try range(file.metadata?[name], count: count)
            let common = stored.clamped(to: piece.range)
            guard !common.isEmpty else { continue }
            let source = try file.tensor(entry).reshape([count])
            try result.narrow(0, common.lowerBound - piece.range.lowerBound, common.count)
                .copyInPlace(
                    from: source.narrow(0, common.lowerBound - stored.lowerBound, common.count))
            numFound += common.count
        }
        return numFound == piece.range.count ? result : nil
    }

    private static func range(_ text: String?, count: Int) throws -> Range<Int> {
        guard let text else { return 0..<count }
        let bounds = text.split(separator: ":").compactMap { Int($0) }
        guard bounds.count == 2, bounds[0] >= 0, bounds[0] + count == bounds[1] else {
            throw CheckpointError.malformed(
                path: "optimizer state", reason: "a piece of \(count) elements says \(text)",
                remedy: "remove this checkpoint and resume from the one before")
        }
        return bounds[0]..<bounds[1]
    }
}
