public import Foundation

/// A safetensors file, mapped and checked: header length, JSON, element types, shapes, contiguous data.
public final class SafetensorsFile {
    /// The mapping; tensors made from it keep it alive.
    public let file: MappedFile
    /// The tensors in the order of their data.
    public let entries: [SafetensorsEntry]
    /// The strings under `__metadata__`; nil if the key is absent.
    public let metadata: [String: String]?
    private let indices: [String: Int]

    /// Maps the file at `url` and checks its header; tensor data is read later, when it is used.
    ///
    /// - Throws: `CheckpointError` if the file cannot be read, is truncated, or breaks the format.
    public init(_ url: URL) throws(CheckpointError) {
        file = try MappedFile(url)
        let header = try SafetensorsHeader(file.bytes, path: url.path)
        entries = header.entries
        metadata = header.metadata
        indices = Dictionary(
            header.entries.enumerated().map { ($0.element.name, $0.offset) },
            uniquingKeysWith: { first, _ in first })
    }

    /// The entry of the tensor called `name`.
    public func entry(_ name: String) -> SafetensorsEntry? {
        indices[name].map { entries[$0] }
    }

    /// The elements of `entry` as stored; valid while this object lives.
    package func bytes(of entry: SafetensorsEntry) -> UnsafeRawBufferPointer {
        file.bytes(in: entry.byteRange)
    }
}
