import Foundation

/// What a safetensors header says of one tensor.
public struct SafetensorsEntry: Hashable, Sendable {
    /// The tensor's name.
    public let name: String
    /// The element type.
    public let dtype: SafetensorsDType
    /// The extents, outermost first.
    public let shape: [Int]
    /// Where the elements lie, counted from the start of the file.
    public let byteRange: Range<Int>
}

/// The header of a safetensors file: read strictly, written byte for byte as the safetensors library does.
struct SafetensorsHeader {
    /// The tensors in the order of their data.
    var entries: [SafetensorsEntry]
    /// The strings under `__metadata__`; nil if the key is absent.
    var metadata: [String: String]?

    /// The longest header that the safetensors library accepts.
    static let maxLength = 100_000_000

    /// The remedy for a file whose header is damaged.
    private static let remedy = "the file is damaged: copy or download it again"

    /// Reads and checks the header of a file.
    init(_ bytes: UnsafeRawBufferPointer, path: String) throws(CheckpointError) {
        guard bytes.count >= 8 else {
            throw .truncated(path: path, expectedBytes: 8, foundBytes: bytes.count)
        }
        let length = UInt64(littleEndian: bytes.loadUnaligned(as: UInt64.self))
        guard length >= 2, length <= UInt64(Self.maxLength) else {
            throw .malformed(
                path: path,
                reason: "not a safetensors file: its first 8 bytes give a header of \(length) "
                    + "bytes, expected 2 to \(Self.maxLength)",
                remedy: "check that this is the right file, or download it again")
        }
        let dataStart = 8 + Int(length)
        guard bytes.count >= dataStart else {
            throw .truncated(path: path, expectedBytes: dataStart, foundBytes: bytes.count)
        }
        let raw: RawHeader
        do {
            guard bytes[8] == UInt8(ascii: "{") else { throw HeaderFault.notAnObject }
            raw = try JSONDecoder().decode(RawHeader.self, from: Data(bytes[8..<dataStart]))
        } catch {
            throw .malformed(
                path: path, reason: "the safetensors header is not valid JSON of tensor entries",
                remedy: Self.remedy)
        }
        metadata = raw.metadata
        entries = []
        try readEntries(raw.tensors, dataStart: dataStart, fileSize: bytes.count, path: path)
    }

    private mutating func readEntries(
        _ tensors: [(name: String, entry: RawEntry)], dataStart: Int, fileSize: Int, path: String
    ) throws(CheckpointError) {
        func malformed(_ name: String, _ reason: String) -> CheckpointError {
            .malformed(path: path, reason: "tensor \(name): \(reason)", remedy: Self.remedy)
        }
        entries.reserveCapacity(tensors.count)
        for (name, raw) in tensors {
            guard let dtype = SafetensorsDType(rawValue: raw.dtype) else {
                throw .unsupported(
                    path: path,
                    reason: "tensor \(name) has the unknown element type \(raw.dtype)",
                    remedy: "known are "
                        + SafetensorsDType.allCases.map(\.rawValue).joined(separator: ", "))
            }
            let offsets = raw.dataOffsets
            guard offsets.count == 2, offsets[0] >= 0, offsets[0] <= offsets[1] else {
                throw malformed(name, "its data_offsets \(offsets) are not [begin, end]")
            }
            guard let size = Self.sizeBytes(raw.shape, dtype) else {
                throw malformed(name, "its shape \(raw.shape) is not possible")
            }
            guard offsets[1] - offsets[0] == size else {
                throw malformed(
                    name,
                    "\(dtype.rawValue) \(raw.shape) takes \(size) bytes, "
                        + "but its data_offsets \(offsets) hold \(offsets[1] - offsets[0])")
            }
            let (end, overflows) = dataStart.addingReportingOverflow(offsets[1])
            guard !overflows else {
                throw malformed(name, "its data_offsets \(offsets) are not possible")
            }
            entries.append(
                SafetensorsEntry(
                    name: name, dtype: dtype, shape: raw.shape,
                    byteRange: dataStart + offsets[0]..<end))
        }
        try checkLayout(dataStart: dataStart, fileSize: fileSize, path: path)
    }

    /// Checks that the tensors follow one another from the header to the end of the file.
    private mutating func checkLayout(
        dataStart: Int, fileSize: Int, path: String
    ) throws(CheckpointError) {
        entries.sort {
            ($0.byteRange.lowerBound, $0.byteRange.upperBound)
                < ($1.byteRange.lowerBound, $1.byteRange.upperBound)
        }
        var end = dataStart
        for entry in entries {
            let start = entry.byteRange.lowerBound
            guard start == end else {
                let gap = start < end ? "overlaps the tensor before it" : "leaves a hole before it"
                throw .malformed(
                    path: path,
                    reason: "tensor \(entry.name): its data begins at \(start - dataStart), "
                        + "expected \(end - dataStart): it \(gap)", remedy: Self.remedy)
            }
            end = entry.byteRange.upperBound
        }
        if fileSize < end {
            throw .truncated(path: path, expectedBytes: end, foundBytes: fileSize)
        }
        if fileSize > end {
            throw .malformed(
                path: path,
                reason: "\(fileSize - end) bytes follow the last tensor: expected \(end) bytes, "
                    + "found \(fileSize)", remedy: Self.remedy)
        }
    }

    /// The size of a tensor, or nil if an extent is negative or the product overflows.
    private static func sizeBytes(_ shape: [Int], _ dtype: SafetensorsDType) -> Int? {
        var size = dtype.sizeBytes
        for extent in shape {
            let (product, overflows) = size.multipliedReportingOverflow(by: extent)
            guard extent >= 0, !overflows else { return nil }
            size = product
        }
        return size
    }
}

// MARK: - Writing

extension SafetensorsHeader {
    /// Lays out tensors in the library's order: wider element types first, then by name.
    init(
        tensors: [(name: String, dtype: SafetensorsDType, shape: [Int])],
        metadata: [String: String]?
    ) {
        let ordered = tensors.sorted {
            $0.dtype == $1.dtype
                ? $0.name.utf8.lexicographicallyPrecedes($1.name.utf8)
                : $0.dtype.rank < $1.dtype.rank
        }
        var end = 0
        entries = ordered.map { tensor in
            let start = end
            end += tensor.shape.reduce(tensor.dtype.sizeBytes, *)
            return SafetensorsEntry(
                name: tensor.name, dtype: tensor.dtype, shape: tensor.shape, byteRange: start..<end)
        }
        self.metadata = metadata
    }

    /// The header's bytes, with the length before and spaces up to a multiple of 8 behind.
    ///
    /// Byte ranges must count from the end of the header, as `init(tensors:metadata:)` makes them.
    func serialized() -> [UInt8] {
        var items: [String] = []
        if let metadata {
            let pairs = metadata.sorted { $0.key.utf8.lexicographicallyPrecedes($1.key.utf8) }
                .map { Self.quoted($0.key) + ":" + Self.quoted($0.value) }
            items.append("\"__metadata__\":{" + pairs.joined(separator: ",") + "}")
        }
        for entry in entries {
            let shape = entry.shape.map(String.init).joined(separator: ",")
            items.append(
                "\(Self.quoted(entry.name)):{\"dtype\":\"\(entry.dtype.rawValue)\","
                    + "\"shape\":[\(shape)],\"data_offsets\":"
                    + "[\(entry.byteRange.lowerBound),\(entry.byteRange.upperBound)]}")
        }
        var json = Array(("{" + items.joined(separator: ",") + "}").utf8)
        json += [UInt8](repeating: UInt8(ascii: " "), count: (8 - json.count % 8) % 8)
        return withUnsafeBytes(of: UInt64(json.count).littleEndian) { Array($0) } + json
    }

    /// A JSON string escaped as serde_json does: only what JSON requires.
    private static func quoted(_ string: String) -> String {
        var result = "\""
        for scalar in string.unicodeScalars {
            switch scalar {
            case "\"": result += "\\\""
            case "\\": result += "\\\\"
            case "\u{8}": result += "\\b"
            case "\t": result += "\\t"
            case "\n": result += "\\n"
            case "\u{c}": result += "\\f"
            case "\r": result += "\\r"
            case "\u{0}"..<" ":
                let hex = String(scalar.value, radix: 16)
                result += "\\u" + String(repeating: "0", count: 4 - hex.count) + hex
            default: result.unicodeScalars.append(scalar)
            }
        }
        return result + "\""
    }
}

// MARK: - JSON

private enum HeaderFault: Error {
    case notAnObject
}

/// The entry of one tensor as the JSON spells it.
private struct RawEntry: Decodable {
    let dtype: String
    let shape: [Int]
    let dataOffsets: [Int]

    private enum CodingKeys: String, CodingKey {
        case dtype
        case shape
        case dataOffsets = "data_offsets"
    }
}

/// The header's JSON object.
private struct RawHeader: Decodable {
    var metadata: [String: String]?
    var tensors: [(name: String, entry: RawEntry)] = []

    private struct Name: CodingKey {
        let stringValue: String
        var intValue: Int? { nil }
        init?(stringValue: String) { self.stringValue = stringValue }
        init?(intValue: Int) { nil }
    }

    init(from decoder: any Decoder) throws {
        let container = try decoder.container(keyedBy: Name.self)
        for key in container.allKeys {
            if key.stringValue == "__metadata__" {
                metadata = try container.decode([String: String].self, forKey: key)
            } else {
                tensors.append(
                    (key.stringValue, try container.decode(RawEntry.self, forKey: key)))
            }
        }
    }
}
