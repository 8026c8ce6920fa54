import Torch

/// The two matrices of each layer of an adapter, read from its tensors without a model.
struct LoRAFactors {
    /// One layer.
    struct Layer {
        /// The name of A in the file.
        let nameA: String
        /// The name of B in the file.
        let nameB: String
        /// A, float32 `[r, inFeatures]`; of an embedding `[r, vocabulary]`.
        let a: Tensor
        /// B, float32 `[outFeatures, r]`; of an embedding `[hidden, r]`.
        let b: Tensor
        /// The factor s of the product.
        let scaling: Double
        /// The adapter's weight.
        let weight: Double

        var rank: Int { a.shape[0] }
        /// The size of the product B A.
        var size: [Int] { [b.shape[0], a.shape[1]] }
    }

    /// What errors call the adapter.
    let name: String
    /// Its configuration.
    let config: LoRAConfig
    /// Its layers by their path.
    let layers: [String: Layer]

    private static let prefix = "base_model.model."
    private static let ends = [
        (a: ".lora_A.weight", b: ".lora_B.weight"),
        (a: ".lora_embedding_A", b: ".lora_embedding_B"),
    ]

    /// Reads an adapter.
    ///
    /// - Throws: `CombinationError.notLoRA`; `unsupported` for what is trained besides; `changesBase`; `adapter` for tensors that are not those of the
    ///   configuration.
    init(_ adapter: WeightedAdapter) throws(CombinationError) {
        guard let config = adapter.config as? LoRAConfig else {
            throw .notLoRA(
                adapter: adapter.name, method: type(of: adapter.config).peftType)
        }
        do {
            try config.validate()
        } catch {
            throw .adapter(adapter.name, error)
        }
        if let option = config.optionBesidesMatrices {
            throw .unsupported(adapter: adapter.name, option: option)
        }
        guard !config.readsWeight else {
            throw .changesBase(adapter: adapter.name, start: config.startOption)
        }
        name = adapter.name
        self.config = config
        do {
            layers = try Self.layers(of: adapter, config)
        } catch {
            throw .adapter(adapter.name, error)
        }
    }

    private static func layers(
        of adapter: WeightedAdapter, _ config: LoRAConfig
    ) throws(AdapterError) -> [String: Layer] {
        var names: [String: (a: String, b: String)] = [:]
        var unexpected: [String] = []
        for name in adapter.tensors.keys where !name.hasSuffix(".base_layer.weight") {
            let found = ends.flatMap { [($0.a, $0), ($0.b, $0)] }.first { name.hasSuffix($0.0) }
            guard name.hasPrefix(prefix), let (end, pair) = found else {
                unexpected.append(name)
                continue
            }
            let layer = name.dropLast(end.count)
            names[String(layer.dropFirst(prefix.count))] = (layer + pair.a, layer + pair.b)
        }
        let paths = names.keys.sorted()
        var tally = Tally()
        let ranks = try LoRAConfig.values(
            of: config.rankPattern, key: "rank_pattern", for: paths, tally: &tally)
        let alphas = try LoRAConfig.values(
            of: config.alphaPattern, key: "alpha_pattern", for: paths, tally: &tally)
        var layers: [String: Layer] = [:]
        var missing: [String] = []
        var mismatched: [MismatchedTensor] = []
        for (path, (rank, alpha)) in zip(paths, zip(ranks, alphas)) {
            guard let name = names[path] else { continue }
            guard let a = adapter.tensors[name.a], let b = adapter.tensors[name.b] else {
                missing.append(adapter.tensors[name.a] == nil ? name.a : name.b)
                continue
            }
            let target = LoRATarget(
                path: path, rank: rank ?? config.r, alpha: alpha ?? config.loraAlpha,
                useRslora: config.useRslora)
            for (name, tensor, expected) in [
                (name.a, a, [target.rank, a.shape.last ?? 0]),
                (name.b, b, [b.shape.first ?? 0, target.rank]),
            ] where tensor.shape != expected || !tensor.dtype.isFloatingPoint {
                mismatched.append(
                    MismatchedTensor(
                        name: name, expected: expected, found: tensor.shape, dtype: tensor.dtype))
            }
            guard mismatched.isEmpty else { continue }
            do {
                layers[path] = Layer(
                    nameA: name.a, nameB: name.b, a: try a.to(.float32), b: try b.to(.float32),
                    scaling: target.scaling, weight: adapter.weight)
            } catch {
                throw .torch(error)
            }
        }
        guard missing.isEmpty, unexpected.isEmpty, mismatched.isEmpty, !layers.isEmpty else {
            throw .mismatchedTensors(
                missing: layers.isEmpty && missing.isEmpty && mismatched.isEmpty
                    ? [prefix + "<layer>" + ends[0].a] : missing,
                unexpected: unexpected.sorted(), mismatched: mismatched)
        }
        return layers
    }
}

extension LoRAConfig {
    /// An option by which more is trained than two matrices a layer; nil if there is none.
    fileprivate var optionBesidesMatrices: String? {
        if useDora { return "use_dora" }
        if loraBias { return "lora_bias" }
        if aloraInvocationTokens != nil { return "alora_invocation_tokens" }
        if layerReplication != nil { return "layer_replication" }
        if bias != .none { return "bias" }
        if modulesToSave != nil { return "modules_to_save" }
        if trainableTokenIndices != nil { return "trainable_token_indices" }
        return targetParameters?.isEmpty == false ? "target_parameters" : nil
    }

    /// Whether the same layers are chosen by the same options.
    fileprivate func selectsAs(_ other: LoRAConfig) -> Bool {
        targetModules == other.targetModules && excludeModules == other.excludeModules
            && layersToTransform == other.layersToTransform
            && layersPattern == other.layersPattern
    }

    /// The names of targets, if nothing but names chooses layers.
    fileprivate var plainNames: [String]? {
        guard case .names(let names) = targetModules, excludeModules == nil,
            layersToTransform?.values.isEmpty != false
        else { return nil }
        return names
    }

    /// The configuration of an adapter made of others: of the first, with scaling 1 and all layers.
    ///
    /// - Parameters:
    ///   - configs: of the adapters, at least one.
    ///   - rank: of the new one.
    ///   - paths: its layers, for adapters whose layers are chosen by different options.
    init(combining configs: [LoRAConfig], rank: Int, paths: [String]) {
        self = configs[0]
        r = rank
        loraAlpha = Double(rank)
        useRslora = false
        rankPattern = [:]
        alphaPattern = [:]
        initLoraWeights = .kaimingUniform
        loftqConfig = nil
        inferenceMode = true
        if configs.dropFirst().allSatisfy({ $0.selectsAs(configs[0]) }) { return }
        let names = configs.compactMap(\.plainNames)
        targetModules = .names(
            names.count == configs.count ? Set(names.joined()).sorted() : paths)
        excludeModules = nil
        layersToTransform = nil
        layersPattern = nil
    }
}
