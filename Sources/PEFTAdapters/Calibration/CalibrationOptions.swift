/// The options of EVA, as in PEFT's `EvaConfig`.
public struct EVAConfig: Hashable, Sendable {
    /// How much larger than asked for the rank of a layer may become; 1 leaves the ranks.
    public var rho = 2.0
    /// The cosine between a component and the one after another batch from which on it counts as found.
    public var tau = 0.99
    /// Whether only tokens that are targets are looked at.
    public var useLabelMask = true
    /// Whether each component is divided by the root of its singular value.
    public var whiten = false
    /// Whether the alpha of a layer grows and falls with its rank.
    public var adjustScalingFactors = true

    /// PEFT's defaults.
    public init() {}
}

/// The options of CorDA, as in PEFT's `CordaConfig`.
public struct CorDAConfig: Hashable, Sendable {
    /// Which components of the weight are trained.
    public enum Method: String, Codable, CaseIterable, Hashable, Sendable {
        /// Those that do most on the rows: the instruction is learned fast.
        case ipm
        /// Those that do least on the rows: what the base knows of them is kept.
        case kpm
    }

    /// Which components of the weight are trained.
    public var method = Method.ipm

    /// PEFT's defaults.
    public init() {}
}

/// The options of LoRA-GA, as in PEFT's `LoraGAConfig`.
public struct LoRAGAConfig: Hashable, Sendable {
    /// Which of the gradient's 2r largest singular vectors become A and B.
    public enum Direction: String, Codable, CaseIterable, Hashable, Sendable {
        /// A takes every second from the second on, B every second from the first on.
        case alternating = "ArBr"
        /// A takes the second half, B the first.
        case reversed = "A2rBr"
        /// A takes the first half, B the second.
        case halves = "ArB2r"
        /// Both take the same ones, drawn at random.
        case random
    }

    /// What B is multiplied with.
    public enum Scale: String, Codable, CaseIterable, Hashable, Sendable {
        /// The fourth root of the layer's outputs over the root of gamma.
        case stable
        /// The weight's largest singular value over that of B.
        case weightSVD = "weight_svd"
        /// One over the scaling, and A too.
        case gradientDescent = "gd_scale"
        /// Nothing.
        case unit
    }

    /// Which singular vectors become A and B.
    public var direction = Direction.halves
    /// What B is multiplied with.
    public var scale = Scale.stable
    /// The gamma of ``Scale/stable``.
    public var stableGamma = 16

    /// PEFT's defaults.
    public init() {}
}

// MARK: - adapter_config.json

extension EVAConfig: ConfigRepresentable {
    static var expectedValue: String {
        "an object of rho, tau, use_label_mask, label_mask_value -100, whiten, adjust_scaling_factors"
    }

    init?(configValue: ConfigValue) {
        guard var members = ConfigMembers(configValue) else { return nil }
        var ignoredLabel = -100
        members.read("label_mask_value", into: &ignoredLabel)
        members.read("rho", into: &rho)
        members.read("tau", into: &tau)
        members.read("use_label_mask", into: &useLabelMask)
        members.read("whiten", into: &whiten)
        members.read("adjust_scaling_factors", into: &adjustScalingFactors)
        guard members.isRead, ignoredLabel == -100 else { return nil }
    }

    var configValue: ConfigValue {
        .object([
            "rho": .double(rho), "tau": .double(tau), "use_label_mask": .bool(useLabelMask),
            "label_mask_value": .int(-100), "whiten": .bool(whiten),
            "adjust_scaling_factors": .bool(adjustScalingFactors),
        ])
    }
}

extension CorDAConfig: ConfigRepresentable {
    static var expectedValue: String { "an object of corda_method, \"ipm\" or \"kpm\"" }

    init?(configValue: ConfigValue) {
        guard var members = ConfigMembers(configValue) else { return nil }
        members.skip(
            "cache_file", "covariance_file", "verbose", "use_float16_for_covariance",
            "prune_temporary_fields")
        members.read("corda_method", into: &method)
        guard members.isRead else { return nil }
    }

    var configValue: ConfigValue {
        .object([
            "corda_method": .string(method.rawValue), "cache_file": .null,
            "covariance_file": .null, "verbose": .bool(false),
            "use_float16_for_covariance": .bool(false), "prune_temporary_fields": .bool(true),
        ])
    }
}

extension LoRAGAConfig: ConfigRepresentable {
    static var expectedValue: String {
        "an object of direction (ArBr, A2rBr, ArB2r, random), scale (stable, weight_svd, gd_scale, unit), stable_gamma"
    }

    init?(configValue: ConfigValue) {
        guard var members = ConfigMembers(configValue) else { return nil }
        members.read("direction", into: &direction)
        members.read("scale", into: &scale)
        members.read("stable_gamma", into: &stableGamma)
        guard members.isRead else { return nil }
    }

    var configValue: ConfigValue {
        .object([
            "direction": .string(direction.rawValue), "scale": .string(scale.rawValue),
            "stable_gamma": .int(stableGamma),
        ])
    }
}

// MARK: - Values

extension LoRAConfig {
    /// What of the options of starts that rows decide is out of bounds, or is for another start.
    var calibrationProblems: [AdapterConfigProblem] {
        var problems: [AdapterConfigProblem] = []
        func require(_ key: String, _ isValid: Bool, _ expected: String, _ found: String) {
            guard !isValid else { return }
            problems.append(.wrongValue(key: key, expected: expected, found: found))
        }
        if let evaConfig {
            require(
                "eva_config.rho", evaConfig.rho >= 1 && evaConfig.rho.isFinite,
                "a number of at least 1", "\(evaConfig.rho)")
            require(
                "eva_config.tau", (0...1).contains(evaConfig.tau), "a number in [0, 1]",
                "\(evaConfig.tau)")
        }
        if let loraGAConfig {
            require(
                "lora_ga_config.stable_gamma", loraGAConfig.stableGamma >= 1,
                "a whole number of at least 1", "\(loraGAConfig.stableGamma)")
        }
        for (key, isSet, start) in [
            ("eva_config", evaConfig != nil, LoRAInitialization.eva),
            ("corda_config", cordaConfig != nil, .corda),
            ("lora_ga_config", loraGAConfig != nil, .loraGA),
        ] where isSet && initLoraWeights != start {
            problems.append(
                .conflict(
                    key: key, other: "init_lora_weights \(initLoraWeights.configValue)",
                    remedy: "remove it, or set init_lora_weights to \"\(start.name)\""))
        }
        return problems
    }

    /// This configuration with the usual start, of which nothing remains where numbers come from a file.
    package var startingPlainly: LoRAConfig {
        var config = self
        config.initLoraWeights = .kaimingUniform
        (config.loftqConfig, config.evaConfig) = (nil, nil)
        (config.cordaConfig, config.loraGAConfig, config.kasaConfig) = (nil, nil, nil)
        return config
    }
}
