/// Reads little-endian values one after another from a GGUF file.
struct GGUFCursor {
    private let bytes: UnsafeRawBufferPointer
    private let path: String
    /// Where the next value begins.
    private(set) var offset = 0

    /// A cursor at the start of `bytes`; `path` names the file in errors.
    init(_ bytes: UnsafeRawBufferPointer, path: String) {
        self.bytes = bytes
        self.path = path
    }

    /// The next integer.
    mutating func integer<T: FixedWidthInteger>(_ type: T.Type = T.self) throws(CheckpointError)
        -> T
    {
        try require(T.bitWidth / 8)
        defer { offset += T.bitWidth / 8 }
        return T(littleEndian: bytes.loadUnaligned(fromByteOffset: offset, as: T.self))
    }

    /// The next uint64 as a count of things that take at least `minBytes` each.
    ///
    /// A count that the rest of the file cannot hold is an error, so no array is made for it.
    mutating func count(of what: String, minBytes: Int) throws(CheckpointError) -> Int {
        let value = try integer(UInt64.self)
        let rest = bytes.count - offset
        guard value <= UInt64(rest / minBytes) else {
            throw malformed("\(value) \(what) announced, but only \(rest) bytes follow")
        }
        return Int(value)
    }

    /// The next string: its length as uint64, then UTF-8.
    mutating func string() throws(CheckpointError) -> String {
        let length = try count(of: "bytes of text", minBytes: 1)
        let text = UnsafeRawBufferPointer(rebasing: bytes[offset..<offset + length])
        guard let string = String(validating: text, as: UTF8.self) else {
            throw malformed("the text of \(length) bytes at byte \(offset) is not UTF-8")
        }
        offset += length
        return string
    }

    /// The next value, of the type with number `type`.
    mutating func value(type: UInt32) throws(CheckpointError) -> GGUFValue {
        switch type {
        case 0: return .unsigned(UInt64(try integer(UInt8.self)))
        case 1: return .signed(Int64(try integer(Int8.self)))
        case 2: return .unsigned(UInt64(try integer(UInt16.self)))
        case 3: return .signed(Int64(try integer(Int16.self)))
        case 4: return .unsigned(UInt64(try integer(UInt32.self)))
        case 5: return .signed(Int64(try integer(Int32.self)))
        case 6: return .float32(Float(bitPattern: try integer()))
        case 7: return .bool(try integer(UInt8.self) != 0)
        case 8: return .string(try string())
        case 9: return .array(try array(depth: 0))
        case 10: return .unsigned(try integer())
        case 11: return .signed(try integer())
        case 12: return .float64(Double(bitPattern: try integer()))
        default: throw malformed("unknown metadata type \(type) at byte \(offset - 4)")
        }
    }

    /// The next array: the type of its elements, their number, the elements.
    private mutating func array(depth: Int) throws(CheckpointError) -> GGUFArray {
        let type = try integer(UInt32.self)
        switch type {
        case 0: return .unsigned(try elements(UInt8.self).map { UInt64($0) })
        case 1: return .signed(try elements(Int8.self).map { Int64($0) })
        case 2: return .unsigned(try elements(UInt16.self).map { UInt64($0) })
        case 3: return .signed(try elements(Int16.self).map { Int64($0) })
        case 4: return .unsigned(try elements(UInt32.self).map { UInt64($0) })
        case 5: return .signed(try elements(Int32.self).map { Int64($0) })
        case 6: return .float32(try elements(UInt32.self).map { Float(bitPattern: $0) })
        case 7: return .bool(try elements(UInt8.self).map { $0 != 0 })
        case 8:
            var strings: [String] = []
            let count = try count(of: "strings", minBytes: 8)
            strings.reserveCapacity(count)
            for _ in 0..<count { strings.append(try string()) }
            return .string(strings)
        case 9 where depth < 4:
            var arrays: [GGUFArray] = []
            for _ in 0..<(try count(of: "arrays", minBytes: 12)) {
                arrays.append(try array(depth: depth + 1))
            }
            return .array(arrays)
        case 10: return .unsigned(try elements(UInt64.self))
        case 11: return .signed(try elements(Int64.self))
        case 12: return .float64(try elements(UInt64.self).map { Double(bitPattern: $0) })
        default: throw malformed("unknown array type \(type) at byte \(offset - 4)")
        }
    }

    private mutating func elements<T: FixedWidthInteger>(
        _ type: T.Type
    ) throws(CheckpointError) -> [T] {
        let size = T.bitWidth / 8
        let count = try count(of: "array elements", minBytes: size)
        let start = offset
        offset += count * size
        return (0..<count).map {
            T(littleEndian: bytes.loadUnaligned(fromByteOffset: start + $0 * size, as: T.self))
        }
    }

    private func require(_ count: Int) throws(CheckpointError) {
        guard offset + count <= bytes.count else {
            throw .truncated(path: path, expectedBytes: offset + count, foundBytes: bytes.count)
        }
    }

    /// An error that says what is wrong with the file.
    func malformed(_ reason: String) -> CheckpointError {
        .malformed(
            path: path, reason: reason,
            remedy: "the file is damaged or cut off: copy or download it again")
    }
}
