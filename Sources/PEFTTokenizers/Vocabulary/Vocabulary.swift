/// The tokens of a model and their ids.
///
/// Tokens are told apart by their bytes: Swift's own string comparison would merge canonically
/// equivalent ones.
package struct Vocabulary: Sendable {
    private var table: ByteStringTable
    private var ids: [Int32] = []
    private var numbers: [Int32] = []

    /// Makes an empty vocabulary with room for `capacity` tokens.
    package init(capacity: Int) {
        table = ByteStringTable(capacity: capacity)
        ids.reserveCapacity(capacity)
        numbers.reserveCapacity(capacity)
    }

    /// Reads an object from token to id.
    package init(_ reader: StageReader) throws(TokenizerError) {
        let object = try reader.object()
        self.init(capacity: object.count)
        for (token, value) in zip(object.keys, object.values) {
            guard let id = value.intValue, (0..<Self.maximumCount).contains(id) else {
                throw StageReader(
                    file: reader.file, path: "\(reader.path)[\"\(token)\"]", value: value
                ).mismatch("an id from 0 to \(Self.maximumCount - 1)")
            }
            insert(token, id: id)
        }
    }

    /// Ids must be below this: 16 million, far above any vocabulary.
    package static let maximumCount = 1 << 24

    /// The number of tokens.
    package var count: Int { table.count }

    /// The number of bytes of the longest token.
    package var longestToken: Int { (0..<table.count).lazy.map { table[$0].count }.max() ?? 0 }

    /// Adds a token; of several equal tokens the last one's id counts.
    package mutating func insert(_ token: String, id: Int) {
        var token = token
        let (number, isNew) = token.withUTF8 { table.insert($0) }
        let value = Int32(truncatingIfNeeded: id)
        if isNew { ids.append(value) } else { ids[number] = value }
        while numbers.count <= id { numbers.append(-1) }
        numbers[id] = Int32(truncatingIfNeeded: number)
    }

    /// The id of the token with these bytes, or -1.
    @inline(__always)
    package func id(of token: UnsafeBufferPointer<UInt8>) -> Int32 {
        let number = table.find(token)
        return number < 0 ? -1 : ids[number]
    }

    /// The id of the token with these bytes, or -1.
    package func id(of token: [UInt8]) -> Int32 {
        token.withUnsafeBufferPointer { id(of: $0) }
    }

    /// The id of `token`, or nil.
    package func id(of token: String) -> Int? {
        var token = token
        let id = token.withUTF8 { self.id(of: $0) }
        return id < 0 ? nil : Int(id)
    }

    /// The bytes of the token with this id, or nil.
    package func bytes(of id: Int) -> ArraySlice<UInt8>? {
        guard numbers.indices.contains(id), numbers[id] >= 0 else { return nil }
        return table[Int(numbers[id])]
    }

    /// The ids of the tokens `<0x00>` to `<0xFF>`, -1 where there is none.
    package func byteTokenIDs() -> [Int32] {
        (0...255).map { (byte: UInt8) in
            let hex = String(byte, radix: 16, uppercase: true)
            return id(of: Array("<0x\(hex.count == 1 ? "0" : "")\(hex)>".utf8))
        }
    }
}
