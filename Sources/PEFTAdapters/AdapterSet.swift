public import PEFTLayers
public import Torch

/// The adapters attached to one model: what is trained, written and read.
public struct AdapterSet {
    /// The configuration as it is written: `all-linear` as names, inference mode on.
    public let config: any AdapterConfig
    /// The adapters with the paths of their layers, in the model's order.
    public let adapters: [(path: String, adapter: any LinearAdapter)]
    /// How many layers each name, pattern and index of the configuration applies to.
    public let matches: [PatternMatch]
    /// Copies of frozen base weights that PEFT writes into the same file, by name; they carry no information.
    ///
    /// PEFT adds the weight of an adapted output head.
    public let frozenCopies: [String: [Int]]

    /// The adapters' tensors, layer by layer in the model's order.
    public var parameters: [Parameter] { adapters.flatMap { $0.adapter.parameters } }

    /// The shape of each tensor of `adapter_model.safetensors`, by name.
    public var tensorShapes: [String: [Int]] {
        Dictionary(uniqueKeysWithValues: parameters.map { ($0.path, $0.value.shape) })
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

extension LoRAConfig: AdapterConfig {
    /// `LORA`.
    public static var peftType: String { coding.peftType }

    /// Attaches a LoRA to every target.
    ///
    /// - Throws: `AdapterError` as `validate()`; `unmatched` with each name, pattern and index that matches nothing;
    ///   `alreadyAdapted` if a target has an adapter.
    public func attach(
        to registry: ModuleRegistry, seed: UInt64, isTrainable: Bool
    ) throws(AdapterError) -> AdapterSet {
        let linears = Dictionary(uniqueKeysWithValues: registry.linears.map { ($0.path, $0) })
        let parameters = try targetedParameters(in: registry)
        let resolved = try parameters.config.resolve(
            in: ModulePaths(
                linears: registry.linears.filter { $0.parameter == nil }.map(\.path),
                outputHead: registry.headPath, parameters: registry.parameters.map(\.path)),
            parameters: parameters.targets.map(\.path))
        let chosen = resolved.targets.compactMap { target in
            linears[target.path].map { (target, $0) }
        }
        let modules = Set(chosen.map(\.0.path))
        let taken =
            chosen.filter { $0.1.adapter != nil }.map(\.0.path)
            + parameters.targets.map(\.linear)
            .filter { $0.adapter != nil || modules.contains($0.path) }.map(\.path)
        if !taken.isEmpty { throw .alreadyAdapted(taken) }

        var made: [(linear: Linear, adapter: any LinearAdapter)] = []
        var frozenCopies: [String: [Int]] = [:]
        for (target, linear) in chosen {
            let (inFeatures, outFeatures) = (linear.weight.inFeatures, linear.weight.outFeatures)
            do {
                let adapter = try LoRA(
                    target: target, inFeatures: inFeatures, outFeatures: outFeatures,
                    dropout: loraDropout, initialization: initLoraWeights, seed: seed,
                    isTrainable: isTrainable, on: linear.weight.device)
                made.append((linear, adapter))
            } catch {
                throw .torch(error)
            }
            if target.path == registry.headPath {
                let name = "base_model.model.\(target.path).base_layer.weight"
                frozenCopies[name] = [outFeatures, inFeatures]
            }
        }
        for (target, parameter) in zip(resolved.parameterTargets, parameters.targets) {
            do {
                let adapter = try makeAdapter(
                    target, parameter, seed: seed, isTrainable: isTrainable)
                made.append((parameter.linear, adapter))
            } catch {
                throw .torch(error)
            }
        }
        for (linear, adapter) in made { linear.attach(adapter) }
        var written = resolved.config
        written.inferenceMode = true
        return AdapterSet(
            config: written, adapters: made.map { ($0.linear.path, $0.adapter) },
            matches: resolved.matches + parameters.matches, frozenCopies: frozenCopies)
    }

    /// The adapter of a parameter: of experts, or of one layer.
    private func makeAdapter(
        _ target: LoRATarget, _ parameter: TargetedParameter, seed: UInt64, isTrainable: Bool
    ) throws(TorchError) -> any LinearAdapter {
        let (linear, weight) = (parameter.linear, parameter.linear.weight)
        guard let numExperts = linear.parameter?.numExperts else {
            let layer = LoRATarget(
                path: linear.path, rank: target.rank, alpha: target.alpha, useRslora: useRslora)
            return try LoRA(
                target: layer, inFeatures: weight.inFeatures, outFeatures: weight.outFeatures,
                initialization: initLoraWeights, seed: seed, isTrainable: isTrainable,
                on: weight.device)
        }
        return try ExpertLoRA(
            target: target, numExperts: numExperts, inFeatures: weight.inFeatures,
            outFeatures: weight.outFeatures / numExperts, prefix: parameter.prefix,
            initialization: initLoraWeights, seed: seed, isTrainable: isTrainable,
            on: weight.device)
    }
}
