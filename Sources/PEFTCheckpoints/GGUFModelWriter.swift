package import Foundation
package import PEFTQuantization
package import Torch

/// Writes a model as a GGUF file with the metadata of the one that it was read from.
///
/// Matrices are stored in one format, everything else as it was. Rows of a length that does not divide into the format's blocks are
/// stored in float16, as llama.cpp does.
package struct GGUFModelWriter {
    /// What is stored in the place of a tensor.
    package enum Content {
        /// What the file has.
        case unchanged
        /// Other numbers, float32, in the order of Hugging Face's files.
        case changed(Tensor)
    }

    private let store: GGUFStore
    private let format: GGUFBlockFormat

    /// The formats that can be written, by `general.file_type`.
    private static let fileTypes: [GGUFBlockFormat: UInt32] = [.f16: 1, .q8_0: 7]

    /// Opens the file whose metadata and names are used.
    ///
    /// - Parameters:
    ///   - url: a GGUF file.
    ///   - format: of the matrices: `.f16` or `.q8_0`.
    /// - Throws: `CheckpointError` if there is no model that can be read.
    package init(like url: URL, format: GGUFBlockFormat) throws {
        precondition(Self.fileTypes[format] != nil, "no model is written in \(format.name)")
        let file = try GGUFFile(url)
        store = try GGUFStore(file, architecture: GGUFArchitecture.of(file))
        self.format = format
    }

    /// How a matrix is stored.
    ///
    /// - Parameter shape: `[outFeatures, inFeatures]`, of all experts `[experts, outFeatures, inFeatures]`, of a bias or norm one extent.
    /// - Returns: the format of the file, or `.f16`; `.f32` for what is no matrix.
    package func format(of shape: [Int]) -> GGUFBlockFormat {
        guard shape.count > 1 else { return .f32 }
        return (shape.last ?? 1).isMultiple(of: format.blockSize) ? format : .f16
    }

    /// Writes the file, tensor by tensor.
    ///
    /// - Parameters:
    ///   - url: the file to create.
    ///   - head: the name of a head that the file has not yet because it is tied to the embedding, and its shape; nil for none.
    ///   - content: what is stored under a Hugging Face name, asked for once a tensor that a model has, in the order of the file.
    ///   - verify: called when all is written; what it throws leaves nothing behind.
    /// - Returns: the size of the file.
    /// - Throws: `CheckpointError`; what `content` and `verify` throw.
    /// - Memory: one tensor in float32 and as it is stored.
    package func write(
        to url: URL, head: (name: String, shape: [Int])?,
        content: @escaping (String) throws -> Content, verify: () throws -> Void
    ) throws -> Int {
        let file = store.file
        var entries = file.entries
        if let type = Self.fileTypes[format] {
            entries.set(GGUFEntry("general.file_type", type))
        }
        if format == .q8_0 { entries.set(GGUFEntry("general.quantization_version", UInt32(2))) }
        var tensors = file.tensors.map { tensor($0, content) }
        if let head {
            let format = format(of: head.shape)
            tensors.append(
                GGUFTensor(name: "output.weight", type: GGUFTensorType(format), shape: head.shape) {
                    guard case .changed(let values) = try content(head.name) else { return }
                    try format.encoded(values, path: head.name).withUnsafeBytes($0)
                })
        }
        return try GGUFWriter.write(
            entries, tensors, alignment: file.metadata.int("general.alignment") ?? 32, to: url,
            verify: verify)
    }

    /// One tensor, for the same name and shape.
    private func tensor(
        _ info: GGUFTensorInfo, _ content: @escaping (String) throws -> Content
    ) -> GGUFTensor {
        let store = store
        let isMatrix = info.shape.count > 1
        let format = format(of: info.shape)
        // A vector that is no float32 numbers stays what it is.
        let type = isMatrix ? GGUFTensorType(format) : info.type
        let name = store.modelName(of: info)
        return GGUFTensor(name: info.name, type: type, shape: info.shape) { body in
            switch try name.map(content) ?? .unchanged {
            case .changed(let values) where type == GGUFTensorType(format):
                let elements = try store.storedElements(values, of: info)
                try format.encoded(elements, path: info.name).withUnsafeBytes(body)
            case .changed:
                throw CheckpointError.unsupported(
                    path: store.path,
                    reason: "an adapter changes \(info.name), which is stored as \(type.name)",
                    remedy: "merge into a Hugging Face folder, and convert that with llama.cpp")
            case .unchanged where type != info.type:
                let rows = try store.stored(info).to(.float32)
                try format.encoded(rows, path: info.name).withUnsafeBytes(body)
            case .unchanged:
                try MappedRange(store.file.file, info.byteRange).withBytes(body)
            }
        }
    }
}
