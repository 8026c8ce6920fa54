/// The header of a GGUF file, read strictly.
struct GGUFHeader {
    let version: Int
    let metadata: GGUFMetadata
    let tensors: [GGUFTensorInfo]
    /// Where the type and the value of each metadata key lie.
    let valueRanges: [String: Range<Int>]

    /// Reads and checks the header of a file.
    init(_ bytes: UnsafeRawBufferPointer, path: String) throws(CheckpointError) {
        var cursor = GGUFCursor(bytes, path: path)
        version = try Self.readVersion(&cursor, path: path)
        let numTensors = try cursor.count(of: "tensors", minBytes: 24)
        let numKeys = try cursor.count(of: "metadata keys", minBytes: 13)
        (metadata, valueRanges) = try Self.readMetadata(&cursor, count: numKeys)
        let alignment = metadata.int("general.alignment") ?? 32
        guard alignment > 0, alignment & (alignment - 1) == 0, alignment <= 1 << 30 else {
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
        guard Set(tensors.map(\.name)).count == tensors.count else {
            throw cursor.malformed("two tensors have the same name")
        }
        let end = tensors.map(\.byteRange.upperBound).max() ?? 0
        guard end <= bytes.count else {
            throw .truncated(path: path, expectedBytes: end, foundBytes: bytes.count)
        }
        try checkOverlap(cursor)
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
    ) throws(CheckpointError) -> (GGUFMetadata, [String: Range<Int>]) {
        var values: [String: GGUFValue] = [:]
        var ranges: [String: Range<Int>] = [:]
        var keys: [String] = []
        for _ in 0..<count {
            let key = try cursor.string()
            let start = cursor.offset
            let type = try cursor.integer(UInt32.self)
            guard values.updateValue(try cursor.value(type: type), forKey: key) == nil else {
                throw cursor.malformed("the metadata key \(key) is there twice")
            }
            keys.append(key)
            ranges[key] = start..<cursor.offset
        }
        return (GGUFMetadata(values: values, keys: keys), ranges)
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
