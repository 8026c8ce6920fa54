import PEFTLayers

/// A layer that gets a LoRA by the name of its weight.
struct TargetedParameter {
    /// The layer.
    let linear: Linear
    /// The weight's path: `model.layers.0.mlp.experts.gate_up_proj`.
    let path: String
    /// What the names of its matrices begin with in the adapter's file.
    let prefix: String
}

/// The parameters of one model that a configuration names.
struct TargetedParameters {
    /// In the model's order.
    var targets: [TargetedParameter]
    /// The configuration with older names of experts as parameters.
    var config: LoRAConfig
    /// How many parameters each name matched.
    var matches: [PatternMatch]
}

/// The options that PEFT's `ParamWrapper` has.
///
/// - Source: peft 0.21.2 `tuners/tuners_utils.py:_inject_parameters`, `utils/transformers_weight_conversion.py:_convert_peft_config_moe`.
extension LoRAConfig {
    /// Options that do not go with adapters of parameters.
    ///
    /// - Parameter key: what asks for them.
    /// - Returns: a problem for each.
    func parameterProblems(_ key: String) -> [AdapterConfigProblem] {
        var problems: [AdapterConfigProblem] = []
        for (option, isSet, value) in [
            ("lora_dropout", loraDropout != 0, "0"), ("fan_in_fan_out", fanInFanOut, "false"),
            ("use_dora", useDora, "false"), ("lora_bias", loraBias, "false"),
            ("alora_invocation_tokens", aloraInvocationTokens != nil, "null"),
            ("kasa_config", kasaConfig != nil, "null"),
            (
                "init_lora_weights",
                initLoraWeights == .orthogonal || initLoraWeights.readsWeight
                    || initLoraWeights.readsRows, "true"
            ),
        ] where isSet {
            problems.append(
                .conflict(
                    key: option, other: "adapters of parameters (\(key))",
                    remedy: "PEFT has none either: set it to \(value)"))
        }
        if layersToTransform?.values.isEmpty == false {
            problems.append(
                .conflict(
                    key: "layers_to_transform", other: "adapters of parameters (\(key))",
                    remedy: "PEFT adapts them in all layers: give their whole paths instead"))
        }
        return problems
    }

    /// Finds the parameters that get a LoRA.
    ///
    /// A name is a parameter's path or its end, as PEFT has it. Names of modules that the model has as parameters are taken for these:
    /// `gate_proj` and `up_proj` of experts for `gate_up_proj` with twice the rank and alpha, `all-linear` for all of them.
    ///
    /// - Parameter registry: the model's layers.
    /// - Returns: the parameters; none if the configuration names none.
    /// - Throws: `AdapterError.invalidConfig` for options that do not go together; `AdapterError.unmatched` with each name that matches
    ///   nothing.
    func targetedParameters(in registry: ModuleRegistry) throws(AdapterError) -> TargetedParameters
    {
        let config = try withModulesAsParameters(registry)
        let names = config.targetParameters ?? []
        let problems = names.isEmpty ? [] : config.parameterProblems("target_parameters")
        guard problems.isEmpty else { throw .invalidConfig(problems) }
        var tally = Tally()
        for name in names { tally.declare("target_parameters", name) }
        var found: [(linear: Linear, path: String)] = []
        for linear in registry.linears {
            let path = linear.parameter?.path ?? linear.path + ".weight"
            let matching = names.filter { path == $0 || path.hasSuffix("." + $0) }
            for name in matching { tally.count("target_parameters", name) }
            if !matching.isEmpty { found.append((linear, path)) }
        }
        let known = registry.linears.compactMap(\.parameter?.path)
        let paths = ModulePaths(linears: known)
        try tally.requireMatches { _, name in .noSuchParameter(nearest: paths.nearestName(to: name))
        }
        var targets: [TargetedParameter] = []
        for (index, (linear, path)) in found.enumerated() {
            let module = Self.module(of: path)
            // PEFT wraps a module once for each of its parameters; the last one is outermost.
            let depth = found[(index + 1)...].count { Self.module(of: $0.path) == module }
            let wrapped = String(repeating: ".base_layer", count: depth)
            targets.append(
                TargetedParameter(
                    linear: linear, path: path, prefix: "base_model.model." + module + wrapped))
        }
        return TargetedParameters(targets: targets, config: config, matches: tally.matches)
    }

    /// A parameter's path without its last part.
    private static func module(of path: String) -> String {
        path.split(separator: ".").dropLast().joined(separator: ".")
    }

    /// The configuration with the names that modules had before their weights became parameters as names of these.
    private func withModulesAsParameters(
        _ registry: ModuleRegistry
    ) throws(AdapterError) -> LoRAConfig {
        let parameters = registry.linears.compactMap(\.parameter).filter { !$0.moduleNames.isEmpty }
        guard !parameters.isEmpty, let targetModules else { return self }
        var modules: [String: [String]] = [:]
        for parameter in parameters { modules[parameter.shortName] = parameter.moduleNames }
        func parameter(of target: String) -> String? {
            modules.first { $0.value.contains { target == $0 || target.hasSuffix("." + $0) } }?.key
        }
        var config = self
        var asked: [String]
        switch targetModules {
        case .names(let names):
            asked = names.filter { parameter(of: $0) != nil }
            config.targetModules = .names(names.filter { parameter(of: $0) == nil })
        case .allLinear:
            let paths = ModulePaths(
                linears: registry.linears.filter { $0.parameter == nil }.map(\.path),
                outputHead: registry.headPath, parameters: registry.parameters.map(\.path))
            asked = modules.values.flatMap { $0 }
            config.targetModules = .names(
                paths.allLinearNames.filter { parameter(of: $0) == nil })
        case .regex(let text):
            try Self.refuseExperts(text, parameters)
            return self
        }
        for (name, all) in modules.sorted(by: { $0.key < $1.key }) {
            let present = all.filter { module in
                asked.contains { $0 == module || $0.hasSuffix("." + module) }
            }
            if present.isEmpty { continue }
            guard present.count == all.count else { throw .partOfParameter(name, present, all) }
            config.targetParameters = (config.targetParameters ?? []).union(name)
            if all.count > 1 {
                let pattern = #".*\."# + name
                config.rankPattern[pattern] = r * all.count
                config.alphaPattern[pattern] = loraAlpha * Double(all.count)
            }
        }
        return config
    }

    /// Refuses a regular expression that names modules of experts: PEFT would adapt them in all layers.
    private static func refuseExperts(
        _ text: String, _ parameters: [TargetParameter]
    ) throws(AdapterError) {
        let pattern = try ModulePattern.whole(text, key: "target_modules")
        for parameter in parameters {
            let module = module(of: parameter.path)
            for name in parameter.moduleNames {
                let isRouter = parameter.numExperts == nil
                for path in isRouter ? [module] : ["\(module).\(name)", "\(module).0.\(name)"]
                where pattern.matchesWhole(path) {
                    throw .invalidConfig([
                        .conflict(
                            key: "target_modules", other: "the parameter \(parameter.path)",
                            remedy: "the expression matches \(path), which is a part of it: "
                                + "give names, or the parameter in target_parameters")
                    ])
                }
            }
        }
    }
}

extension TargetParameter {
    /// The end of the path that tells the parameter from others of its block: `gate_up_proj`, `gate.weight`.
    fileprivate var shortName: String {
        let parts = path.split(separator: ".")
        return parts.suffix(numExperts == nil ? 2 : 1).joined(separator: ".")
    }
}

extension AdapterError {
    /// The error for some of the modules that a parameter consists of.
    fileprivate static func partOfParameter(
        _ name: String, _ present: [String], _ all: [String]
    ) -> AdapterError {
        let missing = all.filter { !present.contains($0) }.joined(separator: ", ")
        return .invalidConfig([
            .conflict(
                key: "target_modules", other: "experts whose weights are one parameter, \(name)",
                remedy: "name \(missing) beside \(present.joined(separator: ", ")), or none of them"
            )
        ])
    }
}

extension [String] {
    /// The list with a name, once.
    fileprivate func union(_ name: String) -> [String] { contains(name) ? self : self + [name] }
}
