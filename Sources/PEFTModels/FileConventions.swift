/// How the Hugging Face files of a family differ from the model that they hold.
public struct FileConventions: Sendable, Hashable {
    /// The paths of a model's parts outside of its blocks, relative to ``base`` but for the head's.
    public struct Names: Sendable, Hashable {
        /// The part of all paths but the head's.
        public var base = "model"
        /// The table of tokens.
        public var embedding = "embed_tokens"
        /// The table of positions; nil for none.
        public var positions: String?
        /// The blocks.
        public var layers = "layers"
        /// The final norm.
        public var norm = "norm"
        /// The output head.
        public var head = "lm_head"

        /// Llama's names.
        public init() {}
    }

    /// The paths of the parts.
    public var names = Names()
    /// Whether there are files without `names.base`, of the model without its head.
    public var mayOmitBase = false
    /// The last parts of the paths of linears whose weights are stored as `[inFeatures, outFeatures]`.
    public var transposedLinears: Set<String> = []
    /// Last parts of names of causal masks that old files hold.
    public var masks: Set<String> = []
    /// Parts of paths that files have in the place of the model's: Mixtral's `block_sparse_moe` for `mlp`.
    public var renamedParts: [String: String] = [:]
    /// Tensors of all experts, by the last part of their path, and the modules of each expert whose weights files may hold instead:
    /// `mlp.experts.7.gate_proj.weight`, rows in this order.
    public var expertModules: [String: [String]] = [:]
    /// The weight of a norm that multiplies by one.
    public var normWeight = 1.0

    /// Llama's conventions.
    public init() {}

    /// The model's name of a stored tensor.
    public func renamed(_ name: String) -> String {
        guard !renamedParts.isEmpty else { return name }
        let parts = name.split(separator: ".", omittingEmptySubsequences: false).map(String.init)
        return parts.map { renamedParts[$0] ?? $0 }.joined(separator: ".")
    }

    /// Whether the tensor at a path is stored transposed.
    public func isTransposed(_ path: String, shape: [Int]) -> Bool {
        let parts = path.split(separator: ".").suffix(2)
        guard shape.count == 2, parts.count == 2, parts.last == "weight" else { return false }
        return transposedLinears.contains(String(parts[parts.startIndex]))
    }

    /// The name that transformers writes a tensor of the model under: what ``renamed(_:)`` reads, inverted.
    package func storedName(_ name: String) -> String {
        let parts = name.split(separator: ".", omittingEmptySubsequences: false).map(String.init)
        return parts.map { part in renamedParts.first { $0.value == part }?.key ?? part }
            .joined(separator: ".")
    }

    /// One module of one expert, as transformers writes it.
    package struct ExpertPiece: Hashable, Sendable {
        /// The tensor's name: `mlp.experts.7.gate_proj.weight`.
        package let name: String
        /// Its first row among all rows of all experts.
        package let firstRow: Int
        /// Its extents.
        package let shape: [Int]
    }

    /// The tensors that transformers writes of one of all experts.
    ///
    /// - Parameters:
    ///   - path: the model's: `mlp.experts.gate_up_proj`.
    ///   - shape: `[experts, rows, columns]`.
    /// - Returns: expert by expert, module by module; nil for a tensor that is no such one.
    package func expertPieces(of path: String, shape: [Int]) -> [ExpertPiece]? {
        guard shape.count == 3, let dot = path.lastIndex(of: "."),
            let modules = expertModules[String(path[path.index(after: dot)...])]
        else { return nil }
        let rows = shape[1] / modules.count
        return (0..<shape[0]).flatMap { expert in
            modules.enumerated().map { index, module in
                ExpertPiece(
                    name: "\(path[..<dot]).\(expert).\(module).weight",
                    firstRow: expert * shape[1] + index * rows, shape: [rows, shape[2]])
            }
        }
    }
}
