public import Foundation

/// What a GGUF file says of one tensor.
public struct GGUFTensorInfo: Hashable, Sendable {
    /// The tensor's name, such as "blk.0.attn_q.weight".
    public let name: String
    /// How the elements are stored.
    public let type: GGUFTensorType
    /// The extents, outermost first as in PyTorch; the file has them the other way round.
    public let shape: [Int]
    /// Where the elements lie, counted from the start of the file.
    public let byteRange: Range<Int>
}

/// A GGUF file, version 2 or 3, mapped and checked.
///
/// - Source: the GGUF specification in ggml's docs/gguf.md.
public final class GGUFFile {
    /// The mapping; tensors made from it keep it alive.
    public let file: MappedFile
    /// The version of the format: 2 or 3.
    public let version: Int
    /// The metadata.
    public let metadata: GGUFMetadata
    /// The tensors in the order of the file.
    public let tensors: [GGUFTensorInfo]
    private let indices: [String: Int]
    private let valueRanges: [String: Range<Int>]

    /// Maps the file at `url` and reads its metadata; tensor data is read later, when it is used.
    ///
    /// - Throws: `CheckpointError` if the file cannot be read, is truncated, big-endian, of another version, or
    ///   breaks the format.
    public init(_ url: URL) throws(CheckpointError) {
        let mapped = try MappedFile(url)
        let header = try mapped.withBytes { (bytes) throws(CheckpointError) in
            try GGUFHeader(bytes, path: url.path)
        }
        file = mapped
        (version, metadata, tensors) = (header.version, header.metadata, header.tensors)
        valueRanges = header.valueRanges
        indices = Dictionary(
            uniqueKeysWithValues: tensors.enumerated().map { ($0.element.name, $0.offset) })
    }

    /// What the file says of the tensor called `name`.
    public func info(_ name: String) -> GGUFTensorInfo? {
        indices[name].map { tensors[$0] }
    }

    /// The metadata as it lies in the file: keys in order, each with the bytes of its type and value.
    var entries: [GGUFEntry] {
        metadata.keys.compactMap { key in
            valueRanges[key].map { range in
                GGUFEntry(key: key, value: file.withBytes(in: range) { [UInt8]($0) })
            }
        }
    }
}
