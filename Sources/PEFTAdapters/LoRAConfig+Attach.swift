public import PEFTLayers
import Torch

extension LoRAConfig: AdapterConfig {
    /// `LORA`.
    public static var peftType: String { coding.peftType }

    /// Attaches a LoRA, or the variant that is asked for, to every target, and trains what else of the base is to be trained.
    ///
    /// - Throws: `AdapterError` as `validate()`; `unmatched` with each name, pattern and index that matches nothing;
    ///   `alreadyAdapted` if a target has an adapter.
    public func attach(
        to registry: ModuleRegistry, seed: UInt64, isTrainable: Bool
    ) throws(AdapterError) -> AdapterSet {
        try requireBlocks(of: registry)
        let (parameters, resolved) = try resolve(in: registry)
        var attachment = LoRAAttachment(
            resolved.config, registry: registry, seed: seed, isTrainable: isTrainable)
        try attachment.addTargets(resolved.targets)
        try attachment.addParameters(
            Array(zip(resolved.parameterTargets, parameters.targets)))
        try attachment.addTokens()
        try attachment.addModules()
        try attachment.addBiases()
        return attachment.attach(matches: resolved.matches + parameters.matches)
    }

    private func resolve(
        in registry: ModuleRegistry
    ) throws(AdapterError) -> (TargetedParameters, LoRATargets) {
        let parameters = try targetedParameters(in: registry)
        let resolved = try parameters.config.resolve(
            in: ModulePaths(
                linears: registry.linears.filter { $0.parameter == nil }.map(\.path),
                embeddings: registry.embeddings.map(\.path), outputHead: registry.headPath,
                parameters: registry.parameters.map(\.path)),
            parameters: parameters.targets.map(\.path))
        return (parameters, resolved)
    }

    /// The layers whose weights, or whose inputs, decide how their adapters start.
    ///
    /// - Parameter registry: the layers of a model that need not have elements.
    /// - Returns: layers in the model's order; none if the start depends on neither.
    /// - Throws: `AdapterError` as ``attach(to:seed:isTrainable:)``; `invalidConfig` with each layer that cannot start so.
    package func weightTargets(
        in registry: ModuleRegistry
    ) throws(AdapterError) -> [(target: LoRATarget, linear: Linear)] {
        guard readsWeight || initLoraWeights.readsRows else { return [] }
        let resolved = try resolve(in: registry).1
        let linears = Dictionary(uniqueKeysWithValues: registry.linears.map { ($0.path, $0) })
        var found: [(target: LoRATarget, linear: Linear)] = []
        var problems: [AdapterConfigProblem] = []
        for target in resolved.targets {
            func refuse(_ reason: String, _ remedy: String) {
                problems.append(
                    .unsuitableLayer(
                        key: startOption, path: target.path, reason: reason, remedy: remedy))
            }
            guard let linear = linears[target.path] else {
                refuse("is an embedding", "leave it out of target_modules")
                continue
            }
            found.append((target, linear))
            // EVA decides the rank itself, and takes nothing out.
            guard readsWeight else { continue }
            let smallest = min(linear.weight.inFeatures, linear.weight.outFeatures)
            let (needed, more) =
                if initLoraWeights == .loraGA {
                    (2 * target.rank, ", of which lora_ga takes twice as many")
                } else if kasaConfig != nil {
                    (target.rank + 1, ", and kasa_config leaves no more than the rest")
                } else {
                    (target.rank, "")
                }
            if linear.weight is TiedWeight {
                refuse(
                    "has the embedding's weight, from which nothing can be taken",
                    "leave it out of target_modules")
            } else if needed > smallest {
                refuse(
                    "has a weight of rank \(smallest) at most, but r is \(target.rank)\(more)",
                    "give a smaller r, or rank_pattern for this layer")
            }
        }
        guard problems.isEmpty else { throw .invalidConfig(problems) }
        return found
    }
}

/// What a configuration attaches to a model: made part by part, and attached when all of it is made.
private struct LoRAAttachment {
    private var config: LoRAConfig
    private let registry: ModuleRegistry
    private let seed: UInt64
    private let isTrainable: Bool

    private var adapters: [(path: String, adapter: any AdapterPart)] = []
    private var actions: [() -> Void] = []
    private var matches: [PatternMatch] = []
    private var frozenCopies: [String: [Int]] = [:]
    private var repeated: [String: Parameter] = [:]
    /// The layers that have a part already.
    private var taken: Set<String> = []

    private static let prefix = "base_model.model."

    init(_ config: LoRAConfig, registry: ModuleRegistry, seed: UInt64, isTrainable: Bool) {
        self.config = config
        self.registry = registry
        self.seed = seed
        self.isTrainable = isTrainable
    }

    /// Puts everything in its place.
    func attach(matches: [PatternMatch]) -> AdapterSet {
        for action in actions { action() }
        var written = config
        written.inferenceMode = true
        if written.initLoraWeights == .loftq, written.loftqConfig?.loftqIter ?? 1 == 1 {
            // Nothing was taken out of the base: whoever reads this needs to know of no start.
            written = written.startingPlainly
        }
        return AdapterSet(
            config: written, adapters: adapters, matches: matches + self.matches,
            frozenCopies: frozenCopies, repeated: repeated, subtracted: subtracted(written))
    }

    /// What was taken out of the base, as a plain LoRA.
    private func subtracted(_ written: LoRAConfig) -> AdapterSet.Subtracted? {
        var tensors: [String: Tensor] = [:]
        for (path, _) in adapters {
            guard let update = registry.starts[path]?.subtracted else { continue }
            tensors[Self.prefix + path + ".lora_A.weight"] = update.a
            tensors[Self.prefix + path + ".lora_B.weight"] = update.b
        }
        guard !tensors.isEmpty else { return nil }
        var plain = written.startingPlainly
        (plain.useDora, plain.bias, plain.modulesToSave) = (false, .none, nil)
        (plain.trainableTokenIndices, plain.ensureWeightTying) = (nil, false)
        return AdapterSet.Subtracted(config: plain, tensors: tensors)
    }

    private mutating func add(
        _ adapter: any AdapterPart, at path: String, _ action: @escaping () -> Void
    ) {
        adapters.append((path, adapter))
        actions.append(action)
        taken.insert(path)
    }

    // MARK: - Targets

    mutating func addTargets(_ targets: [LoRATarget]) throws(AdapterError) {
        let linears = Dictionary(uniqueKeysWithValues: registry.linears.map { ($0.path, $0) })
        let embeddings = Dictionary(
            uniqueKeysWithValues: registry.embeddings.map { ($0.path, $0) })
        let adapted = targets.map(\.path).filter {
            linears[$0]?.adapter != nil || embeddings[$0]?.adapter != nil
        }
        if !adapted.isEmpty { throw .alreadyAdapted(adapted) }
        for target in targets {
            try requireTokens(target.path, isEmbedding: embeddings[target.path] != nil)
            if let linear = linears[target.path] {
                let start = try start(of: target, linear)
                let adapter = try torch { () throws(TorchError) in
                    try makeAdapter(target, of: linear, start: start)
                }
                add(adapter, at: target.path) { linear.attach(adapter) }
            } else if let embedding = embeddings[target.path] {
                guard !config.loraBias else {
                    throw .unsuitable(
                        "lora_bias", target.path, "is an embedding, whose LoRA has no bias",
                        "leave it out of target_modules, or set lora_bias to false")
                }
                let adapter = try torch { () throws(TorchError) in
                    try makeAdapter(target, of: embedding)
                }
                add(adapter, at: target.path) { embedding.attach(adapter) }
            }
        }
    }

    /// Refuses a layer that does not see all tokens of a row, or is none of linears, for an adapter that rows activate.
    private func requireTokens(_ path: String, isEmbedding: Bool) throws(AdapterError) {
        guard config.aloraInvocationTokens != nil else { return }
        guard isEmbedding || path == registry.headPath else { return }
        throw .unsuitable(
            "alora_invocation_tokens", path,
            isEmbedding
                ? "is an embedding, which has no activated LoRA"
                : "is the output head, which is run for some tokens of a row only",
            "leave it out of target_modules")
    }

    mutating func addParameters(
        _ targets: [(LoRATarget, TargetedParameter)]
    ) throws(AdapterError) {
        let adapted = targets.map(\.1.linear).filter {
            $0.adapter != nil || taken.contains($0.path)
        }
        if !adapted.isEmpty { throw .alreadyAdapted(adapted.map(\.path)) }
        for (target, parameter) in targets { try addParameter(target, parameter) }
    }

    /// The adapter of a parameter: of experts, or of one layer.
    private mutating func addParameter(
        _ target: LoRATarget, _ parameter: TargetedParameter
    ) throws(AdapterError) {
        let (linear, weight) = (parameter.linear, parameter.linear.weight)
        let adapter = try torch { () throws(TorchError) -> any LinearAdapter in
            guard let numExperts = linear.parameter?.numExperts else {
                let layer = LoRATarget(
                    path: linear.path, rank: target.rank, alpha: target.alpha,
                    useRslora: config.useRslora)
                return try LoRA(
                    target: layer, inFeatures: weight.inFeatures, outFeatures: weight.outFeatures,
                    initialization: config.initLoraWeights, seed: seed, isTrainable: isTrainable,
                    on: weight.device)
            }
            return try ExpertLoRA(
                target: target, numExperts: numExperts, inFeatures: weight.inFeatures,
                outFeatures: weight.outFeatures / numExperts, prefix: parameter.prefix,
                initialization: config.initLoraWeights, seed: seed, isTrainable: isTrainable,
                on: weight.device)
        }
        add(adapter, at: linear.path) { linear.attach(adapter) }
    }

    /// The start that was computed from the layer's weight or from rows; nil if it does not depend on them, or comes from a file.
    private func start(
        of target: LoRATarget, _ linear: Linear
    ) throws(AdapterError) -> LowRankStart? {
        guard let start = registry.starts[target.path],
            start.update.a.shape == [target.rank, linear.weight.inFeatures],
            start.update.b.shape == [linear.weight.outFeatures, target.rank]
        else {
            guard config.readsWeight, isTrainable else { return nil }
            throw .unsuitable(
                config.startOption, target.path,
                "was read without this start, which is taken out of its weight",
                "read the base with BaseModelOptions.fit")
        }
        return start
    }

    private mutating func makeAdapter(
        _ target: LoRATarget, of linear: Linear, start: LowRankStart?
    ) throws(TorchError) -> any LinearAdapter {
        let weight = linear.weight
        if target.path == registry.headPath {
            frozenCopies[Self.prefix + target.path + ".base_layer.weight"] = [
                weight.outFeatures, weight.inFeatures,
            ]
        }
        let lora = try LoRA(
            target: target, inFeatures: weight.inFeatures, outFeatures: weight.outFeatures,
            dropout: config.loraDropout, initialization: config.initLoraWeights,
            // What KaSA takes out is no part of what its A and B start as.
            start: config.kasaConfig == nil ? start : nil,
            seed: seed, isTrainable: isTrainable, on: weight.device)
        if config.useDora {
            try bringIntoMemory(weight.replaceable, at: target.path + ".weight")
            return try DoRA(lora, on: weight, bias: linear.bias)
        }
        if let tokens = config.aloraInvocationTokens {
            return ActivatedLoRA(lora, invocation: InvocationTokens(tokens))
        }
        if let kasa = config.kasaConfig {
            return try KaSA(lora, config: kasa, seed: seed)
        }
        if config.loraBias {
            return try BiasedLoRA(
                lora, seed: seed, isRandom: config.initLoraWeights == .random)
        }
        return lora
    }

    private mutating func makeAdapter(
        _ target: LoRATarget, of embedding: Embedding
    ) throws(TorchError) -> any EmbeddingAdapter {
        let shape = embedding.weight.original.shape
        frozenCopies[Self.prefix + target.path + ".base_layer.weight"] = shape
        let lora = try EmbeddingLoRA(
            target: target, vocabularySize: shape[0], hiddenSize: shape[1],
            isRandom: config.initLoraWeights == .random, seed: seed, isTrainable: isTrainable,
            on: embedding.weight.original.device)
        guard config.useDora else { return lora }
        try bringIntoMemory(embedding.weight, at: embedding.weight.path)
        return try EmbeddingDoRA(lora, on: embedding.weight.original)
    }

    // MARK: - Rows of tokens

    mutating func addTokens() throws(AdapterError) {
        switch config.trainableTokenIndices {
        case nil: return
        case .embedding(let tokens):
            guard let embedding = registry.embeddings.first else { return }
            let rows = try addRows(tokens, of: embedding)
            try tieHead(to: embedding, rows)
        case .layers(let layers):
            try addTokens(of: layers)
        }
    }

    private mutating func addTokens(of layers: [String: [Int]]) throws(AdapterError) {
        var tally = Tally()
        var tokensOfHead: [Int]?
        var made: [(embedding: Embedding, rows: TrainedRows)] = []
        for (name, tokens) in layers.sorted(by: { $0.key < $1.key }) {
            tally.declare("trainable_token_indices", name)
            for embedding in registry.embeddings where embedding.path.hasSuffix(name) {
                tally.count("trainable_token_indices", name)
                made.append((embedding, try addRows(tokens, of: embedding)))
            }
            if registry.headPath?.hasSuffix(name) == true {
                tally.count("trainable_token_indices", name)
                tokensOfHead = tokens
            }
        }
        let known = registry.embeddings.map(\.path) + [registry.headPath].compactMap(\.self)
        try tally.requireMatches { _, name in
            .noSuchModule(nearest: NearestName.anyway(of: name, in: known))
        }
        matches += tally.matches
        guard let head else { return }
        let source = tied(head).flatMap { table in made.first { $0.embedding === table } }
        if let source, tokensOfHead == nil || tokensOfHead == source.rows.tokens {
            return try tieHead(to: source.embedding, source.rows)
        }
        guard let tokensOfHead else { return }
        if source != nil, config.ensureWeightTying {
            throw .invalidConfig([
                .conflict(
                    key: "ensure_weight_tying", other: "other tokens of the head than of its table",
                    remedy: "give the same trainable_token_indices to both, or leave the head out")
            ])
        }
        try addRows(tokensOfHead, of: head)
    }

    private mutating func addRows(
        _ tokens: [Int], of embedding: Embedding
    ) throws(AdapterError) -> TrainedRows {
        try requireFree(embedding.path, "trainable_token_indices")
        if embedding.adapter != nil { throw .alreadyAdapted([embedding.path]) }
        let rows = try makeRows(tokens, of: embedding.weight, path: embedding.path)
        let adapter = TrainableTokens(rows)
        add(adapter, at: embedding.path) { embedding.attach(adapter) }
        return rows
    }

    private mutating func addRows(_ tokens: [Int], of head: Linear) throws(AdapterError) {
        guard let weight = head.weight.replaceable else {
            throw .unsuitable(
                "trainable_token_indices", head.path, "is stored in quantized codes",
                "leave it out")
        }
        addToHead(head, try makeRows(tokens, of: weight, path: head.path))
    }

    /// A head that has the table's weight computes with the table's trained rows.
    private mutating func tieHead(
        to embedding: Embedding, _ rows: TrainedRows
    ) throws(AdapterError) {
        guard let head, tied(head) === embedding else {
            return try config.ensureWeightTying ? throwUntied() : ()
        }
        try requireFree(head.path, "trainable_token_indices")
        addToHead(head, rows)
    }

    private mutating func addToHead(_ head: Linear, _ rows: TrainedRows) {
        let adapter = TrainableTokensHead(rows)
        add(adapter, at: head.path) { head.attach(adapter) }
    }

    private func makeRows(
        _ tokens: [Int], of table: Parameter, path: String
    ) throws(AdapterError) -> TrainedRows {
        let count = table.original.shape[0]
        if let foreign = tokens.first(where: { $0 >= count }) {
            throw .invalidConfig([
                .wrongValue(
                    key: "trainable_token_indices", expected: "tokens below \(count)",
                    found: "\(foreign)")
            ])
        }
        return try torch { () throws(TorchError) in
            try bringIntoMemory(table, at: table.path)
            return try TrainedRows(
                tokens, of: table.original, path: path, isTrainable: isTrainable)
        }
    }

    // MARK: - Whole modules and biases

    mutating func addModules() throws(AdapterError) {
        let modules = try ModulesToSave(config.modulesToSave ?? [], in: registry)
        matches += modules.matches
        var slots = modules.slots
        var tiedHead: Parameter?
        if config.ensureWeightTying, let head, let alias = head.weight.replaceable,
            slots.contains(where: { $0.base === alias || $0.base === tied(head)?.weight })
        {
            guard let table = tied(head) else { return try throwUntied() }
            slots.removeAll { $0.base === alias || $0.base === table.weight }
            slots.insert(.init(path: table.weight.path, base: table.weight), at: 0)
            config.tieModulesToSave(embedding: table.path, head: head.path)
            tiedHead = alias
        } else if config.ensureWeightTying, config.trainableTokenIndices == nil {
            throw .invalidConfig([
                .conflict(
                    key: "ensure_weight_tying", other: "a head and an embedding that stay frozen",
                    remedy: "train one of them by modules_to_save or trainable_token_indices")
            ])
        }
        for slot in slots {
            try requireFree(slot.layer, "modules_to_save")
            let alias = slot.path == tied(head)?.weight.path ? tiedHead : nil
            try addTensor(slot.base, and: alias, as: Self.prefix + slot.path)
            guard let alias, let tensor = adapters.last?.adapter.parameters.first else { continue }
            repeated[Self.prefix + alias.path] = tensor
        }
    }

    mutating func addBiases() throws(AdapterError) {
        let adapted = Set(
            registry.linears.filter { taken.contains($0.path) }.compactMap(\.bias).map(\.path))
        let saved = Set(adapters.flatMap { $0.adapter.parameters }.map(\.path))
        let biases = registry.parameters.filter { parameter in
            guard !saved.contains(Self.prefix + parameter.path) else { return false }
            return switch config.bias {
            case .none: false
            case .all: parameter.path.hasSuffix(".bias")
            case .loraOnly: adapted.contains(parameter.path)
            }
        }
        guard config.bias != .none else { return }
        guard !biases.isEmpty else {
            throw .unmatched([
                UnmatchedPattern(option: "bias", pattern: config.bias.rawValue, reason: .noBias)
            ])
        }
        for bias in biases {
            let layer = bias.path.dropLast(".bias".count)
            let name = adapted.contains(bias.path) ? "\(layer).base_layer.bias" : bias.path
            try addTensor(bias, and: nil, as: Self.prefix + name)
        }
        matches.append(
            PatternMatch(
                option: "bias", pattern: config.bias.rawValue, numMatches: biases.count))
    }

    private mutating func addTensor(
        _ base: Parameter, and other: Parameter?, as name: String
    ) throws(AdapterError) {
        if base.replacement != nil { throw .alreadyAdapted([base.path]) }
        let tensor = try torch { () throws(TorchError) in
            try bringIntoMemory(base, at: base.path)
            return try TrainedTensor(of: base, as: name, isTrainable: isTrainable)
        }
        adapters.append((base.path, tensor))
        actions.append {
            base.replace(by: tensor.parameter)
            other?.replace(by: tensor.parameter)
        }
    }

    // MARK: - The model

    /// The output head.
    private var head: Linear? { registry.linears.last { $0.path == registry.headPath } }

    /// The embedding whose weight a head has; nil for a head with its own.
    private func tied(_ head: Linear?) -> Embedding? {
        guard let head, head.weight is TiedWeight, let weight = head.weight.replaceable else {
            return nil
        }
        return registry.embeddings.first { $0.weight.original.isSame(as: weight.original) }
    }

    private func throwUntied() throws(AdapterError) {
        throw .unmatched([
            UnmatchedPattern(
                option: "ensure_weight_tying", pattern: "true", reason: .headIsNotTied)
        ])
    }

    /// Refuses two parts for one layer.
    private func requireFree(_ path: String, _ key: String) throws(AdapterError) {
        guard taken.contains(path) else { return }
        throw .unsuitable(
            key, path, "has an adapter of target_modules or trainable_token_indices",
            "name it in one of the options only")
    }

    private func bringIntoMemory(_ parameter: Parameter?, at path: String) throws(TorchError) {
        // A tied head is where its table is.
        let table = registry.embeddings.first { embedding in
            parameter.map { $0.original.isSame(as: embedding.weight.original) } ?? false
        }
        try registry.bringIntoMemory(table?.weight.path ?? path)
    }

    private func torch<Result>(
        _ body: () throws(TorchError) -> Result
    ) throws(AdapterError) -> Result {
        do {
            return try body()
        } catch {
            throw .torch(error)
        }
    }
}

extension AdapterError {
    /// One option that a layer cannot have.
    package static func unsuitable(
        _ key: String, _ path: String, _ reason: String, _ remedy: String
    ) -> AdapterError {
        .invalidConfig([
            .unsuitableLayer(key: key, path: path, reason: reason, remedy: remedy)
        ])
    }
}

extension LoRAConfig {
    /// Names the embedding among the modules that are trained whole, and the head, which is trained with it, no more.
    ///
    /// - Source: peft 0.21.2 `tuners/lora/model.py:_add_modules_to_save_to_tie`.
    fileprivate mutating func tieModulesToSave(embedding: String, head: String) {
        var names = modulesToSave ?? []
        if !names.contains(embedding) { names.append(embedding) }
        if let index = names.firstIndex(where: { head == $0 || head.hasSuffix("." + $0) }) {
            names.remove(at: index)
        }
        modulesToSave = names
    }
}
