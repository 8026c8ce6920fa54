public import Foundation

/// One tensor to write, whose elements are asked for when their turn comes.
public struct SafetensorsTensor {
    /// The tensor's name.
    public let name: String
    /// The element type.
    public let dtype: SafetensorsDType
    /// The extents, outermost first.
    public let shape: [Int]
    /// Calls its argument once with the elements, row-major.
    let withBytes: ((UnsafeRawBufferPointer) throws -> Void) throws -> Void

    /// A tensor of raw bytes.
    ///
    /// - Parameters:
    ///   - name: the tensor's name.
    ///   - dtype: the element type.
    ///   - shape: the extents.
    ///   - bytes: the elements, row-major, little-endian; their number must fit the shape.
    public init(name: String, dtype: SafetensorsDType, shape: [Int], bytes: [UInt8]) {
        self.init(name: name, dtype: dtype, shape: shape) { body in
            try bytes.withUnsafeBytes { try body($0) }
        }
    }

    init(
        name: String, dtype: SafetensorsDType, shape: [Int],
        withBytes: @escaping ((UnsafeRawBufferPointer) throws -> Void) throws -> Void
    ) {
        self.name = name
        self.dtype = dtype
        self.shape = shape
        self.withBytes = withBytes
    }

    /// The size of the elements.
    var sizeBytes: Int { shape.reduce(dtype.sizeBytes, *) }
}

/// Writes safetensors files byte for byte as the safetensors library does, one tensor at a time.
public enum SafetensorsWriter {
    /// What PEFT and transformers put under `__metadata__`.
    public static let metadataOfTorch = ["format": "pt"]

    /// Writes `tensors` to `url`, whole or not at all.
    ///
    /// - Parameters:
    ///   - tensors: the tensors in any order; names must differ.
    ///   - metadata: strings for `__metadata__`; nil leaves the key out.
    ///   - url: the file to create or replace.
    /// - Throws: `CheckpointError` if names repeat or the disk refuses; an existing file is then untouched. What a
    ///   tensor throws while its elements are computed is passed on.
    public static func write(
        _ tensors: [SafetensorsTensor], metadata: [String: String]? = metadataOfTorch, to url: URL
    ) throws {
        let file = try prepare(tensors, metadata: metadata, for: url)
        try file.commit()
    }

    /// Writes the temporary file for `url`, flushed and closed; `commit` puts it under its name.
    static func prepare(
        _ tensors: [SafetensorsTensor], metadata: [String: String]?, for url: URL
    ) throws -> AtomicFile {
        var byName: [String: SafetensorsTensor] = [:]
        for tensor in tensors {
            guard byName.updateValue(tensor, forKey: tensor.name) == nil else {
                throw CheckpointError.cannotWrite(
                    path: url.path, reason: "two tensors are called \(tensor.name)",
                    remedy: "give each tensor a name of its own")
            }
        }
        let header = SafetensorsHeader(
            tensors: tensors.map { ($0.name, $0.dtype, $0.shape) }, metadata: metadata)
        let file = try AtomicFile(replacing: url)
        try file.append(header.serialized())
        for entry in header.entries {
            guard let tensor = byName[entry.name] else { continue }
            try tensor.withBytes { bytes in
                guard bytes.count == tensor.sizeBytes else {
                    throw CheckpointError.cannotWrite(
                        path: url.path,
                        reason: "tensor \(tensor.name) of shape \(tensor.shape) takes "
                            + "\(tensor.sizeBytes) bytes, but has \(bytes.count)",
                        remedy: "give the shape of the elements")
                }
                try file.append(bytes)
            }
        }
        try file.close()
        return file
    }

    /// Reads the file at `url` again and compares it with `tensors`, byte for byte.
    ///
    /// - Throws: `CheckpointError.cannotWrite` that names the first difference.
    static func verify(_ tensors: [SafetensorsTensor], at url: URL) throws {
        let stored = try SafetensorsFile(url)
        func differs(_ what: String) -> CheckpointError {
            .cannotWrite(
                path: url.path, reason: "\(what) reads back different from what was written",
                remedy: "check the disk and the memory of this machine")
        }
        guard stored.entries.count == tensors.count else { throw differs("the list of tensors") }
        for tensor in tensors {
            guard let entry = stored.entry(tensor.name), entry.shape == tensor.shape,
                entry.dtype == tensor.dtype
            else { throw differs("tensor \(tensor.name)") }
            try tensor.withBytes { bytes in
                guard stored.withBytes(of: entry, { bytes.holdsSameBytes(as: $0) }) else {
                    throw differs("tensor \(tensor.name)")
                }
            }
        }
    }
}
