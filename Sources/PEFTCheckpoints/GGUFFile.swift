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

    /// Maps the file at `url` and reads its metadata; tensor data is read later, when it is used.
    ///
    /// - Throws: `CheckpointError` if the file cannot be read, is truncated, big-endian, of another version, or
    ///   breaks the format.
    public init(_ url: URL) throws(CheckpointError) {
        file = try MappedFile(url)
        var cursor = GGUFCursor(file.bytes, path: url.path)
        version = try Self.readVersion(&cursor, path: url.path)
        let numTensors = try cursor.count(of: "tensors", minBytes: 24)
        let numKeys = try cursor.count(of: "metadata keys", minBytes: 13)
        metadata = try Self.readMetadata(&cursor, count: numKeys)
        let alignment = metadata.int("general.alignment") ?? 32
        guard alignment > 0, alignment & (alignment - 1) == 0 else {
            throw cursor.malformed("general.alignment is \(alignment), expected a power of two")
        }
        var raw: [RawInfo] = []
        for _ in 0..<numTensors { raw.append(try RawInfo(&cursor)) }
        let dataStart = (cursor.offset + alignment - 1) / alignment * alignment
        var tensors: [GGUFTensorInfo] = []
        for info in raw {
            tensors.append(try info.checked(dataStart: dataStart, alignment: alignment, cursor))
        }
        self.tensors = tensors
        indices = Dictionary(
            tensors.enumerated().map { ($0.element.name, $0.offset) },
            uniquingKeysWith: { first, _ in first })
        guard indices.count == tensors.count else {
            throw cursor.malformed("two tensors have the same name")
        }
        let end = tensors.map(\.byteRange.upperBound).max() ?? 0
        guard end <= file.sizeBytes else {
            throw .truncated(path: url.path, expectedBytes: end, foundBytes: file.sizeBytes)
        }
        try checkOverlap(cursor)
    }

    /// What the file says of the tensor called `name`.
    public func info(_ name: String) -> GGUFTensorInfo? {
        indices[name].map { tensors[$0] }
    }

    private static func readVersion(
        _ cursor: inout GGUFCursor, path: String
    ) throws(CheckpointError) -> Int {
        let magic = try cursor.integer(UInt32.self)
        guard magic == 0x4655_4747 else {
            throw .malformed(
                path: path, reason: "not a GGUF file: it does not begin with \"GGUF\"",
                remedy: "check that this is the right file, or download it again")
        }
        let version = try cursor.integer(UInt32.self)
        guard version & 0xFFFF != 0 else {
            throw .unsupported(
                path: path, reason: "the GGUF file is big-endian",
                remedy: "convert it with llama.cpp's gguf_convert_endian.py")
        }
        guard version == 2 || version == 3 else {
            throw .unsupported(
                path: path, reason: "GGUF version \(version), expected 2 or 3",
                remedy: "convert the model again with a current llama.cpp")
        }
        return Int(version)
    }

    private static func readMetadata(
        _ cursor: inout GGUFCursor, count: Int
    ) throws(CheckpointError) -> GGUFMetadata {
        var values: [String: GGUFValue] = [:]
        var keys: [String] = []
        for _ in 0..<count {
            let key = try cursor.string()
            let type = try cursor.integer(UInt32.self)
            guard values.updateValue(try cursor.value(type: type), forKey: key) == nil else {
                throw cursor.malformed("the metadata key \(key) is there twice")
            }
            keys.append(key)
        }
        return GGUFMetadata(values: values, keys: keys)
    }

    private func checkOverlap(_ cursor: GGUFCursor) throws(CheckpointError) {
        var previous: GGUFTensorInfo?
        for info in tensors.sorted(by: { $0.byteRange.lowerBound < $1.byteRange.lowerBound })
        where !info.byteRange.isEmpty {
            if let previous, info.byteRange.lowerBound < previous.byteRange.upperBound {
                throw cursor.malformed("tensor \(info.name) overlaps tensor \(previous.name)")
            }
            previous = info
        }
    }
}

/// What the file says of one tensor, before it is checked.
private struct RawInfo {
    let name: String
    let extents: [UInt64]
    let type: UInt32
    let offset: UInt64

    init(_ cursor: inout GGUFCursor) throws(CheckpointError) {
        name = try cursor.string()
        let numDimensions = try cursor.integer(UInt32.self)
        guard numDimensions <= 4 else {
            throw cursor.malformed(
                "tensor \(name) has \(numDimensions) dimensions, expected 0 to 4")
        }
        var extents: [UInt64] = []
        for _ in 0..<numDimensions { extents.append(try cursor.integer()) }
        self.extents = extents
        type = try cursor.integer()
        offset = try cursor.integer()
    }

    func checked(
        dataStart: Int, alignment: Int, _ cursor: GGUFCursor
    ) throws(CheckpointError) -> GGUFTensorInfo {
        guard let type = GGUFTensorType(id: type) else {
            throw cursor.malformed("tensor \(name) has the unknown type number \(self.type)")
        }
        var numElements = 1
        for extent in extents {
            let (product, overflows) = numElements.multipliedReportingOverflow(
                by: Int(clamping: extent))
            guard extent <= 1 << 48, !overflows, product <= 1 << 48 else {
                throw cursor.malformed("tensor \(name) has the impossible extents \(extents)")
            }
            numElements = product
        }
        let rowLength = Int(extents.first ?? 1)
        guard rowLength % type.elementsPerBlock == 0 else {
            throw cursor.malformed(
                "tensor \(name) has rows of \(rowLength) elements, expected a multiple of "
                    + "\(type.elementsPerBlock), the block of \(type.name)")
        }
        guard offset % UInt64(alignment) == 0, offset <= 1 << 56 else {
            throw cursor.malformed(
                "tensor \(name) begins at \(offset), expected a multiple of \(alignment)")
        }
        let start = dataStart + Int(offset)
        let size = numElements / type.elementsPerBlock * type.bytesPerBlock
        return GGUFTensorInfo(
            name: name, type: type, shape: extents.reversed().map { Int($0) },
            byteRange: start..<start + size)
    }
}
