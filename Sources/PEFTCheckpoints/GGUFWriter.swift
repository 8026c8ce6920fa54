package import Foundation

/// One key of the metadata of a GGUF file to write, with the bytes of its type and value.
package struct GGUFEntry: Hashable, Sendable {
    /// The key.
    package let key: String
    /// The type's number as uint32, then the value.
    let value: [UInt8]

    init(key: String, value: [UInt8]) {
        self.key = key
        self.value = value
    }

    /// A string.
    package init(_ key: String, _ text: String) {
        self.init(key: key, value: GGUFWriter.bytes(UInt32(8)) + GGUFWriter.bytes(text))
    }

    /// A whole number, as uint32.
    package init(_ key: String, _ number: UInt32) {
        self.init(key: key, value: GGUFWriter.bytes(UInt32(4)) + GGUFWriter.bytes(number))
    }

    /// A number, as float32.
    package init(_ key: String, _ number: Float) {
        self.init(
            key: key, value: GGUFWriter.bytes(UInt32(6)) + GGUFWriter.bytes(number.bitPattern))
    }
}

extension [GGUFEntry] {
    /// Puts an entry in the place of the one with its key, or at the end.
    mutating func set(_ entry: GGUFEntry) {
        if let index = firstIndex(where: { $0.key == entry.key }) {
            self[index] = entry
        } else {
            append(entry)
        }
    }
}

/// One tensor of a GGUF file to write, whose bytes are asked for when their turn comes.
package struct GGUFTensor {
    /// The tensor's name.
    package let name: String
    /// How the elements are stored.
    package let type: GGUFTensorType
    /// The extents, outermost first as in PyTorch.
    package let shape: [Int]
    /// Calls its argument once with the elements.
    let withBytes: ((UnsafeRawBufferPointer) throws -> Void) throws -> Void

    /// The size of the elements.
    var sizeBytes: Int { shape.reduce(1, *) / type.elementsPerBlock * type.bytesPerBlock }
}

/// Writes GGUF files of version 3, one tensor at a time.
///
/// - Source: the GGUF specification in ggml's docs/gguf.md; gguf 0.19.0 `gguf_writer.py`.
package enum GGUFWriter {
    /// Writes a file, whole or not at all.
    ///
    /// - Parameters:
    ///   - entries: the metadata, in order.
    ///   - tensors: in the order of the file.
    ///   - alignment: what the offset of each tensor is a multiple of; other than 32, the metadata must say so too.
    ///   - url: the file to create.
    ///   - verify: called when all is written; what it throws leaves nothing behind.
    /// - Returns: the size of the file.
    /// - Throws: `CheckpointError.cannotWrite`; what a tensor and `verify` throw.
    package static func write(
        _ entries: [GGUFEntry], _ tensors: [GGUFTensor], alignment: Int = 32, to url: URL,
        verify: () throws -> Void = {}
    ) throws -> Int {
        let file = try AtomicFile(replacing: url)
        var header = Array("GGUF".utf8) + bytes(UInt32(3))
        header += bytes(UInt64(tensors.count)) + bytes(UInt64(entries.count))
        for entry in entries { header += bytes(entry.key) + entry.value }
        var offset = 0
        for tensor in tensors {
            header += bytes(tensor.name) + bytes(UInt32(tensor.shape.count))
            for extent in tensor.shape.reversed() { header += bytes(UInt64(extent)) }
            header += bytes(tensor.type.id) + bytes(UInt64(offset))
            offset += tensor.sizeBytes + padding(after: tensor.sizeBytes, alignment).count
        }
        header += padding(after: header.count, alignment)
        try file.append(header)
        for tensor in tensors {
            try tensor.withBytes { elements in
                precondition(
                    elements.count == tensor.sizeBytes,
                    "tensor \(tensor.name) has \(elements.count) bytes, not \(tensor.sizeBytes)")
                try file.append(elements)
            }
            try file.append(padding(after: tensor.sizeBytes, alignment))
        }
        try verify()
        try file.commit()
        return header.count + offset
    }

    private static func padding(after size: Int, _ alignment: Int) -> [UInt8] {
        [UInt8](repeating: 0, count: (alignment - size % alignment) % alignment)
    }

    /// A number, little-endian.
    static func bytes(_ number: some FixedWidthInteger) -> [UInt8] {
        withUnsafeBytes(of: number.littleEndian) { Array($0) }
    }

    /// A text: its length as uint64, then UTF-8.
    static func bytes(_ text: String) -> [UInt8] { bytes(UInt64(text.utf8.count)) + text.utf8 }
}
