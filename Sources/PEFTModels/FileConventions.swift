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
}
