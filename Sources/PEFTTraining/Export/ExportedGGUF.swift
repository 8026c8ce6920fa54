import Foundation
import PEFTCheckpoints
import PEFTQuantization
import Torch

/// Writes a model as a GGUF file with the metadata of the base's, matrices in one format.
struct ExportedGGUF {
    /// What is written; its base is a GGUF file.
    let model: ExportedModel
    /// The format of matrices: `.f16` or `.q8_0`.
    let format: GGUFBlockFormat

    /// Writes the file.
    ///
    /// - Parameters:
    ///   - url: where it is to be; nothing is there.
    ///   - verify: called when all tensors are written, with what is left of the update; what it throws leaves nothing behind.
    /// - Returns: the size of the file, and what is left of the update.
    /// - Throws: `CheckpointError`; what the model and `verify` throw.
    /// - Memory: one weight a few times in float32.
    func write(
        to url: URL, verify: ([UpdateSurvival]) throws -> Void
    ) throws -> (sizeBytes: Int, layers: [UpdateSurvival]) {
        let writer = try GGUFModelWriter(like: model.files.url, format: format)
        let head = model.untiedHead.flatMap { model.entry($0) }
        let record = SurvivalRecord()
        func layers() -> [UpdateSurvival] { record.layers(in: model.entries.map(\.path)) }
        let sizeBytes = try writer.write(
            to: url, head: head.map { ($0.path, $0.shape) },
            content: { name in
                guard let entry = model.entry(name) else { return .unchanged }
                switch try model.content(of: entry) {
                case .unchanged(let value):
                    // A head that was tied is not in the base's file.
                    return entry.path == head?.path ? .changed(try value.to(.float32)) : .unchanged
                case .changed(let base, let merged):
                    if merged !== base {
                        record.add(try survival(entry, base: base, merged: merged, writer))
                    }
                    return .changed(merged)
                }
            }, verify: { try verify(layers()) })
        return (sizeBytes, layers())
    }

    /// The update as the file's blocks have it; these go along rows, whose order does not matter then.
    private func survival(
        _ entry: ExportedModel.Entry, base: Tensor, merged: Tensor, _ writer: GGUFModelWriter
    ) throws -> UpdateSurvival {
        let format = writer.format(of: entry.shape)
        let blocks = try format.encoded(merged.contiguous(), path: entry.path)
        let stored = try blocks.withUnsafeBytes {
            try format.decoded($0, shape: entry.shape, path: entry.path)
        }
        return try UpdateSurvival(path: entry.path, base: base, merged: merged, stored: stored)
    }
}
