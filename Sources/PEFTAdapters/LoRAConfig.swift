public import Foundation

/// How the matrices of a LoRA start.
public enum LoRAInitialization: Codable, Hashable, Sendable {
    /// A uniform in ±1/√in (Kaiming with a = √5), B zero: the model starts as its base.
    case kaimingUniform
    /// A normal with standard deviation 1/r, B zero: the model starts as its base.
    case gaussian
    /// A and B normal, with rows of A and columns of B that are orthogonal in the rank, so that B A is zero: the model starts as its
    /// base, and both learn from the first step. The rank is even.
    case orthogonal
    /// A uniform in ±1/√in, B uniform in ±1/√r: the model does not start as its base; for debugging.
    case random
    /// The weight's largest singular values and their vectors, which are taken out of the base: the model starts as its base.
    case pissa
    /// The same approximately, by so many iterations of a subspace that is random at first.
    case pissaIterated(Int)
    /// The first rows and columns of the weight's factors R and Q, which are taken out of the base: the model starts as its base.
    case olora
    /// The largest singular values of what quantization takes from the weight: the model starts nearer to the base than its codes.
    case loftq
    /// A the components of what enters the layer, B zero, the ranks where components explain most: the model starts as its base.
    case eva
    /// The weight's components in the order of what they do on rows, taken out of the base: the model starts as its base.
    case corda
    /// The largest singular vectors of the weight's gradient, taken out of the base: the model starts as its base.
    case loraGA
}

/// The options of LoRA, as in PEFT's `LoraConfig` and its `adapter_config.json`.
///
/// A property is named after its key: `lora_alpha` is `loraAlpha`. The defaults are PEFT's. Options of PEFT without a
/// property are not supported; see `ConfigCoding` for what reading does with them.
///
/// - Source: peft 0.21.2 `tuners/lora/config.py:LoraConfig`.
public struct LoRAConfig: Hashable, Sendable {
    /// The rank: the number of rows of A and of columns of B.
    public var r = 8
    /// The numerator of the scaling: `alpha / r`, or `alpha / √r` with rsLoRA.
    public var loraAlpha = 8.0
    /// The probability with which an input of A is dropped in training.
    public var loraDropout = 0.0
    /// The linear layers that get an adapter; nil is PEFT's default and must be set.
    public var targetModules: TargetModules?
    /// Linear layers that get none though `targetModules` match.
    public var excludeModules: TargetModules?
    /// Parameters that get an adapter though no linear layer has them, such as `mlp.experts.gate_up_proj`, by the ends of their paths.
    public var targetParameters: [String]?
    /// Indices of the layers to adapt; nil or empty means all.
    public var layersToTransform: OneOrMore<Int>?
    /// The name before a layer's index, such as `layers`; nil or empty means any.
    public var layersPattern: OneOrMore<String>?
    /// Ranges `[from, to]` of the base's blocks that the adapted model is made of; nil for the base's own.
    ///
    /// Copies share their weights, and layers are named by the new blocks.
    public var layerReplication: [[Int]]?
    /// Ranks of single layers, by a regular expression over the end of their path.
    public var rankPattern: [String: Int] = [:]
    /// Alphas of single layers, by a regular expression over the end of their path.
    public var alphaPattern: [String: Double] = [:]
    /// Whether the scaling is rank-stabilized, `alpha / √r`.
    public var useRslora = false
    /// Whether the base's files hold the layers' weights transposed, as GPT-2's do; kept as it was read, since the model knows.
    public var fanInFanOut = false
    /// How the matrices start.
    public var initLoraWeights = LoRAInitialization.kaimingUniform
    /// The options of LoftQ; nil for its defaults, and where `initLoraWeights` is another.
    public var loftqConfig: LoftQConfig?
    /// The options of EVA; nil for its defaults, and where `initLoraWeights` is another.
    public var evaConfig: EVAConfig?
    /// The options of CorDA; nil for its defaults, and where `initLoraWeights` is another.
    public var cordaConfig: CorDAConfig?
    /// The options of LoRA-GA; nil for its defaults, and where `initLoraWeights` is another.
    public var loraGAConfig: LoRAGAConfig?
    /// The penalties of KaSA; nil for a LoRA without singular values; see ``KaSA``.
    public var kasaConfig: KaSAConfig?
    /// Whether a magnitude of each row of the weight is trained beside the direction; see ``DoRA``.
    public var useDora = false
    /// Whether B has a bias; see ``BiasedLoRA``.
    public var loraBias = false
    /// The tokens from whose last occurrence in a row the adapter acts (aLoRA); nil for all of a row; see ``ActivatedLoRA``.
    public var aloraInvocationTokens: [Int]?
    /// Which of the base's biases are trained.
    public var bias = TrainedBiases.none
    /// Modules that are trained whole: those whose path ends with one of the names.
    public var modulesToSave: [String]?
    /// Tokens whose rows of the embedding are trained, alone or by the name of the layer.
    public var trainableTokenIndices: TrainedTokenIndices?
    /// Whether a head that is tied to the embedding stays so where the embedding is trained.
    public var ensureWeightTying = false

    /// The base model's name or folder.
    public var baseModelNameOrPath: String?
    /// The base model's revision on the Hub.
    public var revision: String?
    /// PEFT's task type, such as `CAUSAL_LM`.
    public var taskType: String?
    /// Whether PEFT loads the adapter frozen; it writes true.
    public var inferenceMode = false
    /// The class of the base model, where `taskType` is nil; kept as it was read.
    public var autoMapping: ConfigValue?
    /// The PEFT version whose form the file has.
    public var peftVersion: String? = "0.21.2"
    /// Kept as it was read; acts only with Megatron, which is not supported.
    public var megatronCore: String? = "megatron.core"
    /// Kept as it was read; acts only with QA-LoRA, which is not supported.
    public var qaloraGroupSize = 16

    /// PEFT's defaults.
    public init() {}

    /// The common options; all others have PEFT's defaults.
    public init(
        r: Int = 8, loraAlpha: Double = 8, loraDropout: Double = 0, targetModules: TargetModules,
        useRslora: Bool = false
    ) {
        self.r = r
        self.loraAlpha = loraAlpha
        self.loraDropout = loraDropout
        self.targetModules = targetModules
        self.useRslora = useRslora
    }
}

// MARK: - adapter_config.json

extension LoRAConfig: Codable {
    /// Reads the content of `adapter_config.json`.
    ///
    /// - Throws: `AdapterError.invalidConfig` with every problem found. Values are checked by `validate()`.
    public init(adapterConfigJSON data: Data) throws(AdapterError) {
        let value = try ConfigValue(json: data)
        self = try Self.coding.read(value, over: LoRAConfig())
    }

    /// The content of `adapter_config.json` as PEFT writes it, with lists of names sorted.
    public func adapterConfigJSON() -> Data { Self.coding.json(self) }

    /// Reads the keys of `adapter_config.json`.
    public init(from decoder: any Decoder) throws {
        self = try Self.coding.read(ConfigValue(from: decoder), over: LoRAConfig())
    }

    /// Writes the keys of `adapter_config.json`.
    public func encode(to encoder: any Encoder) throws {
        try Self.coding.write(self).encode(to: encoder)
    }

    /// The keys of `adapter_config.json`.
    package static let coding = ConfigCoding<LoRAConfig>(
        peftType: "LORA",
        fields: [
            ConfigField("r", \.r),
            ConfigField("lora_alpha", \.alpha),
            ConfigField("lora_dropout", \.loraDropout),
            ConfigField("target_modules", \.targetModules),
            ConfigField("exclude_modules", \.excludeModules),
            ConfigField("target_parameters", \.targetParameters),
            ConfigField("layers_to_transform", \.layersToTransform),
            ConfigField("layers_pattern", \.layersPattern),
            ConfigField("layer_replication", \.layerReplication),
            ConfigField("rank_pattern", \.rankPattern),
            ConfigField("alpha_pattern", \.alphas),
            ConfigField("use_rslora", \.useRslora),
            ConfigField("fan_in_fan_out", \.fanInFanOut),
            ConfigField("init_lora_weights", \.initLoraWeights),
            ConfigField("loftq_config", \.loftq),
            ConfigField("eva_config", \.evaConfig),
            ConfigField("corda_config", \.cordaConfig),
            ConfigField("lora_ga_config", \.loraGAConfig),
            ConfigField("kasa_config", \.kasaConfig),
            ConfigField("use_dora", \.useDora),
            ConfigField("lora_bias", \.loraBias),
            ConfigField("alora_invocation_tokens", \.aloraInvocationTokens),
            ConfigField("bias", \.bias),
            ConfigField("modules_to_save", \.savedModules),
            ConfigField("trainable_token_indices", \.trainableTokenIndices),
            ConfigField("ensure_weight_tying", \.ensureWeightTying),
            ConfigField("base_model_name_or_path", \.baseModelNameOrPath),
            ConfigField("revision", \.revision),
            ConfigField("task_type", \.taskType),
            ConfigField("inference_mode", \.inferenceMode),
            ConfigField("auto_mapping", \.autoMapping),
            ConfigField("peft_version", \.peftVersion),
            ConfigField("megatron_core", \.megatronCore),
            ConfigField("qalora_group_size", \.qaloraGroupSize),
        ],
        unsupported: [
            "arrow_config": .null,
            "megatron_config": .null, "monteclora_config": .null, "use_bdlora": .null,
            "use_qalora": .bool(false),
            "velora_config": .null,
        ])

    /// PEFT takes an empty list as none.
    private var savedModules: [String]? {
        get { modulesToSave }
        set { modulesToSave = newValue?.isEmpty == true ? nil : newValue }
    }

    /// PEFT takes an empty object as none.
    private var loftq: WrittenLoftQ {
        get { WrittenLoftQ(config: loftqConfig) }
        set { loftqConfig = newValue.config }
    }

    private var alpha: Alpha {
        get { Alpha(value: loraAlpha) }
        set { loraAlpha = newValue.value }
    }

    private var alphas: [String: Alpha] {
        get { alphaPattern.mapValues(Alpha.init(value:)) }
        set { alphaPattern = newValue.mapValues(\.value) }
    }
}

/// An alpha: PEFT's type is a whole number, so whole values are written as such.
private struct Alpha: ConfigRepresentable {
    static var expectedValue: String { Double.expectedValue }

    let value: Double

    init(value: Double) { self.value = value }

    init?(configValue: ConfigValue) {
        guard let value = Double(configValue: configValue) else { return nil }
        self.value = value
    }

    var configValue: ConfigValue { Int(exactly: value).map(ConfigValue.int) ?? .double(value) }
}

/// LoftQ's options, an empty object for none.
private struct WrittenLoftQ: ConfigRepresentable {
    static var expectedValue: String {
        "{} or {\"loftq_bits\": 4, \"loftq_iter\": a whole number of at least 1}"
    }

    let config: LoftQConfig?

    init(config: LoftQConfig?) { self.config = config }

    init?(configValue: ConfigValue) {
        guard configValue != .null, configValue != .object([:]) else {
            config = nil
            return
        }
        guard case .object(let members) = configValue,
            members.keys.allSatisfy({ ["loftq_bits", "loftq_iter"].contains($0) }),
            members["loftq_bits"] ?? .int(4) == .int(4),
            case .int(let iterations) = members["loftq_iter"] ?? .int(1), iterations >= 1
        else { return nil }
        config = LoftQConfig(loftqIter: iterations)
    }

    var configValue: ConfigValue {
        guard let config else { return .object([:]) }
        return .object([
            "loftq_bits": .int(config.loftqBits), "loftq_iter": .int(config.loftqIter),
        ])
    }
}

extension LoRAInitialization: ConfigRepresentable {
    static var expectedValue: String {
        """
        true, false, "gaussian", "orthogonal", "pissa", "pissa_niter_N", "olora", "loftq", "eva", "corda" or "lora_ga"
        """
    }

    /// The names of those that are named, but for `gaussian`, which PEFT takes in capitals too.
    private static let names: [String: LoRAInitialization] = [
        "orthogonal": .orthogonal, "pissa": .pissa, "loftq": .loftq,
        "eva": .eva, "corda": .corda, "lora_ga": .loraGA,
    ]

    /// The initialization of a name.
    package init?(name: String) {
        if let known = Self.names[name] {
            self = known
        } else if name.hasPrefix("pissa_niter_"),
            let iterations = Int(name.dropFirst("pissa_niter_".count)), iterations >= 0
        {
            self = .pissaIterated(iterations)
        } else {
            switch name.lowercased() {
            case "gaussian": self = .gaussian
            case "olora": self = .olora
            default: return nil
            }
        }
    }

    init?(configValue: ConfigValue) {
        switch configValue {
        case .bool(let standard): self = standard ? .kaimingUniform : .random
        case .string(let name): self.init(name: name)
        default: return nil
        }
    }

    var configValue: ConfigValue {
        switch self {
        case .kaimingUniform: .bool(true)
        case .random: .bool(false)
        default: .string(name)
        }
    }

    /// The name; of `true` and `false` these.
    package var name: String {
        switch self {
        case .kaimingUniform: "true"
        case .random: "false"
        case .gaussian: "gaussian"
        case .orthogonal: "orthogonal"
        case .pissa: "pissa"
        case .pissaIterated(let iterations): "pissa_niter_\(iterations)"
        case .olora: "olora"
        case .loftq: "loftq"
        case .eva: "eva"
        case .corda: "corda"
        case .loraGA: "lora_ga"
        }
    }
}
