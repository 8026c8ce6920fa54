public import PEFTLayers
public import Torch

/// The adapters attached to one model: what is trained, written and read.
public struct AdapterSet {
    /// The configuration as it is written: `all-linear` as names, inference mode on.
    public let config: any AdapterConfig
    /// The adapters with the paths of their layers, then the tensors of the base that are trained whole, in the model's order.
    public let adapters: [(path: String, adapter: any AdapterPart)]
    /// How many layers each name, pattern and index of the configuration applies to.
    public let matches: [PatternMatch]
    /// Copies of frozen base weights that PEFT writes into the same file, by name; they carry no information.
    ///
    /// PEFT adds the weight of an adapted output head or embedding.
    public let frozenCopies: [String: [Int]]

    /// Names under which trained tensors are written a second time, as PEFT does for a tied head; reading passes over them.
    public var repeated: [String: Parameter] = [:]

    /// What was taken out of the base's weights when these were read; nil for nothing.
    public let subtracted: Subtracted?

    /// A plain LoRA whose update was taken out of the base's weights, so that base and adapter are together what the base was.
    public struct Subtracted {
        /// Its configuration.
        public let config: LoRAConfig
        /// Its tensors, by name as in a file.
        public let tensors: [String: Tensor]
    }

    /// Names what was attached.
    ///
    /// - Parameters:
    ///   - config: the configuration as it is written.
    ///   - adapters: the parts with the paths of their layers, in the model's order.
    ///   - matches: see ``matches``.
    ///   - frozenCopies: see ``frozenCopies``.
    ///   - repeated: see ``repeated``.
    ///   - subtracted: see ``subtracted``.
    public init(
        config: any AdapterConfig, adapters: [(path: String, adapter: any AdapterPart)],
        matches: [PatternMatch] = [], frozenCopies: [String: [Int]] = [:],
        repeated: [String: Parameter] = [:], subtracted: Subtracted? = nil
    ) {
        self.config = config
        self.adapters = adapters
        self.matches = matches
        self.frozenCopies = frozenCopies
        self.repeated = repeated
        self.subtracted = subtracted
    }

    /// The adapters' tensors, layer by layer in the model's order; what tied layers share once.
    public var parameters: [Parameter] {
        var seen: Set<ObjectIdentifier> = []
        return adapters.flatMap { $0.adapter.parameters }
            .filter { seen.insert(ObjectIdentifier($0)).inserted }
    }

    /// How many linear layers have an adapter.
    public var numAdaptedLinears: Int { adapters.count { $0.adapter is any LinearAdapter } }

    /// The tokens that activate the adapter in a row; nil if it acts on all.
    package var invocation: InvocationTokens? {
        adapters.lazy.compactMap { ($0.adapter as? any LinearAdapter)?.invocation }.first
    }

    /// The shape of each tensor of `adapter_model.safetensors`, by name.
    public var tensorShapes: [String: [Int]] {
        let shapes = parameters.map { ($0.path, $0.value.shape) }
        return Dictionary(uniqueKeysWithValues: shapes)
            .merging(repeated.mapValues { $0.value.shape }) { shape, _ in shape }
    }

    /// Whether the model computes exactly what its base computes: none of the adapters changes anything.
    ///
    /// - Throws: `TorchError` if memory does not suffice.
    public func changesNothing() throws(TorchError) -> Bool {
        for (_, adapter) in adapters where try !adapter.changesNothing() { return false }
        return true
    }

    /// Fills the adapters from the tensors of a file, all or none.
    ///
    /// - Parameter tensors: by name as in the file; any floating-point dtype, converted to the adapters' own.
    /// - Throws: `AdapterError.mismatchedTensors` with every name that is missing, unexpected, or of another shape or kind.
    public func load(_ tensors: [String: Tensor]) throws(AdapterError) {
        try requireMatch(tensors)
        do {
            try withoutGrad { () throws(TorchError) in
                for parameter in parameters {
                    guard let tensor = tensors[parameter.path] else { continue }
                    try parameter.value.copyInPlace(from: tensor)
                }
            }
        } catch {
            throw .torch(error)
        }
    }

    /// Compares names, shapes and dtypes with the adapters' own.
    private func requireMatch(_ tensors: [String: Tensor]) throws(AdapterError) {
        let shapes = tensorShapes
        let missing = shapes.keys.filter { tensors[$0] == nil }.sorted()
        var unexpected: [String] = []
        var mismatched: [MismatchedTensor] = []
        for (name, tensor) in tensors.sorted(by: { $0.key < $1.key }) {
            guard let expected = shapes[name] ?? frozenCopies[name] else {
                unexpected.append(name)
                continue
            }
            if tensor.shape != expected || !tensor.dtype.isFloatingPoint {
                mismatched.append(
                    MismatchedTensor(
                        name: name, expected: expected, found: tensor.shape, dtype: tensor.dtype))
            }
        }
        guard missing.isEmpty, unexpected.isEmpty, mismatched.isEmpty else {
            throw .mismatchedTensors(
                missing: missing, unexpected: unexpected, mismatched: mismatched)
        }
    }
}
