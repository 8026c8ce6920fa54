public import PEFTTokenizers

/// What `peft quantize` wrote.
public struct QuantizeReport: Equatable, Sendable {
    /// The folder.
    public var output: String
    /// How the weights are stored, in words.
    public var storage: String
    /// The weight files, in order.
    public var files: [String]
    /// Bytes of all tensors.
    public var sizeBytes: Int
    /// Elements of the model.
    public var numParameters: Int
    /// What the user should know besides.
    public var notes: [String]

    /// Makes a report.
    public init(
        output: String, storage: String, files: [String], sizeBytes: Int, numParameters: Int,
        notes: [String] = []
    ) {
        self.output = output
        self.storage = storage
        self.files = files
        self.sizeBytes = sizeBytes
        self.numParameters = numParameters
        self.notes = notes
    }

    /// The report as `peft quantize --json` writes it.
    public var json: JSONObject {
        [
            "output": .string(output), "storage": .string(storage),
            "files": .array(files.map { .string($0) }), "size_bytes": .int(sizeBytes),
            "num_parameters": .int(numParameters),
            "notes": .array(notes.map { .string($0) }),
        ]
    }
}
