public import PEFTTokenizers

/// What a merge wrote, and what is left of the update.
public struct MergeReport: Equatable, Sendable {
    /// The folder or file.
    public var output: String
    /// What the update was added to, in words.
    public var base: String
    /// What the merged weights are stored as, in words.
    public var storage: String
    /// The weight files, in order.
    public var files: [String]
    /// Bytes of all tensors.
    public var sizeBytes: Int
    /// The adapted layers, in the model's order.
    public var layers: [UpdateSurvival]
    /// What the user should know besides.
    public var notes: [String]

    /// Makes a report.
    public init(
        output: String, base: String, storage: String, files: [String], sizeBytes: Int,
        layers: [UpdateSurvival], notes: [String] = []
    ) {
        self.output = output
        self.base = base
        self.storage = storage
        self.files = files
        self.sizeBytes = sizeBytes
        self.layers = layers
        self.notes = notes
    }

    /// All layers as one.
    public var total: UpdateSurvival { .total(layers, path: "all") }

    /// The layers in which most of the update is lost, the worst first.
    public var lost: [UpdateSurvival] {
        layers.filter { $0.survived < UpdateSurvival.threshold }
            .sorted { $0.survived < $1.survived }
    }

    /// The report as `peft merge --json` writes it.
    public var json: JSONObject {
        [
            "output": .string(output), "base": .string(base), "storage": .string(storage),
            "files": .array(files.map { .string($0) }), "size_bytes": .int(sizeBytes),
            "survived": .double(total.survived), "noise": .double(total.noise),
            "relative_update": total.relativeUpdate.isFinite
                ? .double(total.relativeUpdate) : .null,
            "layers": .array(layers.map { .object($0.json) }),
            "notes": .array(notes.map { .string($0) }),
        ]
    }
}
