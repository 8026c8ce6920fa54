public import PEFTTokenizers

/// What a model, an adapter or a checkpoint holds.
public struct InspectReport: Equatable, Sendable {
    /// One tensor of a file.
    public struct TensorEntry: Equatable, Sendable {
        /// The tensor's path.
        public var name: String
        /// How it is stored: "BF16", "Q4_1".
        public var dtype: String
        /// Its dimensions, slowest first.
        public var shape: [Int]

        /// Makes an entry.
        public init(name: String, dtype: String, shape: [Int]) {
            self.name = name
            self.dtype = dtype
            self.shape = shape
        }
    }

    /// The file or folder.
    public var path: String
    /// What it is: "GGUF model", "LoRA adapter", "checkpoint".
    public var kind: String
    /// What is known of it, by names in snake_case, the most important first.
    public var facts: JSONObject
    /// Its tensors, in file order.
    public var tensors: [TensorEntry]

    /// Makes a report.
    public init(path: String, kind: String, facts: JSONObject, tensors: [TensorEntry]) {
        self.path = path
        self.kind = kind
        self.facts = facts
        self.tensors = tensors
    }

    /// The report as `peft inspect --json` prints it.
    public var json: JSONObject {
        let tensors = tensors.map { tensor in
            JSONValue.object([
                "name": .string(tensor.name), "dtype": .string(tensor.dtype),
                "shape": .array(tensor.shape.map { .int($0) }),
            ])
        }
        return [
            "path": .string(path), "kind": .string(kind), "facts": .object(facts),
            "tensors": .array(tensors),
        ]
    }
}
