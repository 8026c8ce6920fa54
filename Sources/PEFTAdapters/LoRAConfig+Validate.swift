extension LoRAConfig {
    /// The task types that PEFT knows.
    private static let taskTypes = [
        "SEQ_CLS", "SEQ_2_SEQ_LM", "CAUSAL_LM", "TOKEN_CLS", "QUESTION_ANS", "FEATURE_EXTRACTION",
    ]

    /// Checks the values of all options, without a model.
    ///
    /// - Throws: `AdapterError.invalidConfig` with every problem found.
    public func validate() throws(AdapterError) {
        let problems = valueProblems + targetProblems + patternProblems + trainedProblems
        if !problems.isEmpty { throw .invalidConfig(problems) }
    }

    private var valueProblems: [AdapterConfigProblem] {
        var problems: [AdapterConfigProblem] = []
        func require(_ key: String, _ isValid: Bool, _ expected: String, _ found: ConfigValue) {
            if isValid { return }
            problems.append(
                .wrongValue(key: key, expected: expected, found: found.description))
        }
        require("r", r >= 1, "a whole number of at least 1", .int(r))
        require(
            "lora_alpha", loraAlpha.isFinite && loraAlpha != 0, "a finite number other than 0",
            .double(loraAlpha))
        require(
            "lora_dropout", (0..<1).contains(loraDropout), "a probability in [0, 1)",
            .double(loraDropout))
        for (pattern, rank) in rankPattern.sorted(by: { $0.key < $1.key }) {
            require(
                "rank_pattern[\"\(pattern)\"]", rank >= 1, "a whole number of at least 1",
                .int(rank))
        }
        for (pattern, alpha) in alphaPattern.sorted(by: { $0.key < $1.key }) {
            require(
                "alpha_pattern[\"\(pattern)\"]", alpha.isFinite && alpha != 0,
                "a finite number other than 0", .double(alpha))
        }
        if let taskType {
            require(
                "task_type", Self.taskTypes.contains(taskType),
                "one of " + Self.taskTypes.joined(separator: ", "), .string(taskType))
        }
        return problems
    }

    /// Variants and what else is trained: what PEFT refuses, too.
    private var trainedProblems: [AdapterConfigProblem] {
        var problems: [AdapterConfigProblem] = []
        if loraBias, useDora {
            problems.append(
                .conflict(
                    key: "lora_bias", other: "use_dora", remedy: "set one of them to false"))
        }
        if loraBias, initLoraWeights != .kaimingUniform, initLoraWeights != .random {
            problems.append(
                .conflict(
                    key: "lora_bias",
                    other: "init_lora_weights \(initLoraWeights.configValue)",
                    remedy: "set init_lora_weights to true"))
        }
        if initLoraWeights == .orthogonal {
            let ranks =
                [("r", r)]
                + rankPattern.sorted { $0.key < $1.key }.map {
                    ("rank_pattern[\"\($0.key)\"]", $0.value)
                }
            for (key, rank) in ranks where !rank.isMultiple(of: 2) {
                problems.append(
                    .wrongValue(
                        key: key, expected: "an even number, with init_lora_weights \"orthogonal\"",
                        found: "\(rank)"))
            }
        }
        problems += startProblems + calibrationProblems + invocationProblems + kasaProblems
        problems += replicationProblems
        if let names = modulesToSave, names.isEmpty || names.contains("") {
            problems.append(
                .wrongValue(
                    key: "modules_to_save", expected: "null or names of modules",
                    found: names.configValue.description))
        }
        for tokens in trainableTokenIndices?.lists ?? []
        where tokens.isEmpty || Set(tokens).count < tokens.count
            || tokens.contains(where: { $0 < 0 })
        {
            problems.append(
                .wrongValue(
                    key: "trainable_token_indices",
                    expected: "at least one token, each of 0 or above and given once",
                    found: tokens.configValue.description))
        }
        return problems
    }

    /// What an adapter cannot have that acts only from some tokens on.
    private var invocationProblems: [AdapterConfigProblem] {
        guard let tokens = aloraInvocationTokens else { return [] }
        let key = "alora_invocation_tokens"
        var problems: [AdapterConfigProblem] = []
        if tokens.isEmpty || tokens.contains(where: { !(0...Int(Int32.max)).contains($0) }) {
            problems.append(
                .wrongValue(
                    key: key, expected: "null or at least one token, each of 0 or above",
                    found: tokens.configValue.description))
        }
        for (option, isSet, value) in [
            ("use_dora", useDora, "false"), ("lora_bias", loraBias, "false"),
            (
                "init_lora_weights \(initLoraWeights.configValue)", initLoraWeights.readsWeight,
                "true"
            ),
        ] where isSet {
            problems.append(.conflict(key: key, other: option, remedy: "set that to \(value)"))
        }
        return problems
    }

    /// What a start that depends on the weight cannot have.
    private var startProblems: [AdapterConfigProblem] {
        var problems: [AdapterConfigProblem] = []
        if initLoraWeights.needsPositiveScaling {
            let alphas =
                [("lora_alpha", loraAlpha)]
                + alphaPattern.sorted { $0.key < $1.key }.map {
                    ("alpha_pattern[\"\($0.key)\"]", $0.value)
                }
            for (key, alpha) in alphas where alpha < 0 {
                problems.append(
                    .wrongValue(
                        key: key,
                        expected: "a number above 0, with init_lora_weights "
                            + initLoraWeights.configValue.description,
                        found: ConfigValue.double(alpha).description))
            }
        }
        if loftqConfig != nil, initLoraWeights != .loftq {
            problems.append(
                .conflict(
                    key: "loftq_config",
                    other: "init_lora_weights \(initLoraWeights.configValue)",
                    remedy: "remove it, or set init_lora_weights to \"loftq\""))
        }
        if let config = loftqConfig, config.loftqBits != 4 || config.loftqIter < 1 {
            problems.append(
                .wrongValue(
                    key: "loftq_config", expected: "loftq_bits 4 and loftq_iter of at least 1",
                    found: "\(config.loftqBits) and \(config.loftqIter)"))
        }
        return problems
    }

    private var targetProblems: [AdapterConfigProblem] {
        var problems: [AdapterConfigProblem] = []
        let hasParameters = targetParameters?.isEmpty == false
        switch targetModules {
        case nil, .names([]):
            if hasParameters { break }
            problems.append(
                .wrongValue(
                    key: "target_modules",
                    expected: "names of linear layers, a regular expression or \"all-linear\"",
                    found: targetModules == nil ? "null" : "[]"))
        case .regex:
            for (key, isSet) in [
                ("layers_to_transform", layersToTransform?.values.isEmpty == false),
                ("layers_pattern", layersPattern?.values.isEmpty == false),
            ] where isSet {
                problems.append(
                    .conflict(
                        key: key, other: "a regular expression in target_modules",
                        remedy: "name the layers' indices in the expression, or give a list"))
            }
        case .names, .allLinear: break
        }
        if hasParameters { problems += parameterProblems("target_parameters") }
        if excludeModules == .allLinear {
            problems.append(
                .wrongValue(
                    key: "exclude_modules", expected: "names or a regular expression",
                    found: "\"all-linear\""))
        }
        if layersPattern?.values.isEmpty == false, layersToTransform?.values.isEmpty != false,
            !problems.contains(where: \.concernsLayersPattern)
        {
            problems.append(
                .conflict(
                    key: "layers_pattern", other: "an empty layers_to_transform",
                    remedy: "give the layers' indices, or remove it"))
        }
        return problems
    }

    private var patternProblems: [AdapterConfigProblem] {
        var problems: [AdapterConfigProblem] = []
        func check(_ key: String, _ pattern: String) {
            do {
                _ = try ModulePattern.whole(pattern, key: key)
            } catch {
                if case .invalidConfig(let found) = error { problems += found }
            }
        }
        do {
            _ = try ModulesToSave.patterns(modulesToSave ?? [])
        } catch {
            if case .invalidConfig(let found) = error { problems += found }
        }
        if case .regex(let pattern) = targetModules { check("target_modules", pattern) }
        if case .regex(let pattern) = excludeModules { check("exclude_modules", pattern) }
        for pattern in layersPattern?.values ?? [] { check("layers_pattern", pattern) }
        for pattern in rankPattern.keys.sorted() { check("rank_pattern", pattern) }
        for pattern in alphaPattern.keys.sorted() { check("alpha_pattern", pattern) }
        return problems
    }
}

extension AdapterConfigProblem {
    fileprivate var concernsLayersPattern: Bool {
        if case .conflict("layers_pattern", _, _) = self { true } else { false }
    }
}
