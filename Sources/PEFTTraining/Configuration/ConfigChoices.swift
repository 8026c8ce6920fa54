import PEFTAdapters
import PEFTData

/// How the linears of the frozen base are stored.
public enum BaseQuantization: String, Codable, CaseIterable, Hashable, Sendable, ConfigChoice {
    /// 4 bits, the NormalFloat codebook of QLoRA.
    case nf4
    /// 4 bits, a floating-point codebook.
    case fp4
    /// As the file has them.
    case none
}

/// The dtype in which activations are computed; adapters and optimizer state are float32 always.
public enum ComputeDType: String, Codable, CaseIterable, Hashable, Sendable, ConfigChoice {
    case bfloat16
    case float32
    /// Trains only with loss scaling: see ``PrecisionRules``.
    case float16
}

/// How the learning rate goes after warm-up, named as transformers' `SchedulerType`.
///
/// Every one begins with `warmupSteps` steps of linear warm-up. Differs from transformers, where
/// `constant` ignores `warmup_steps` without a word.
public enum LearningRateScheduler: String, Codable, CaseIterable, Hashable, Sendable, ConfigChoice {
    case constant
    /// The same as `constant`, under the name that transformers gives it when there is warm-up.
    case constantWithWarmup = "constant_with_warmup"
    /// Falls linearly to 0 at the last step.
    case linear
    /// Falls to 0 at the last step along half a cosine.
    case cosine
    /// Falls to 0 along half a cosine, again and again.
    case cosineWithRestarts = "cosine_with_restarts"
    /// Falls along half a cosine to a least rate.
    case cosineWithMinLr = "cosine_with_min_lr"
    /// Falls along a power of what is left to a last rate.
    case polynomial
    /// Falls as one over the root of the steps.
    case inverseSqrt = "inverse_sqrt"
    /// Stays at the peak, and falls over the last steps.
    case warmupStableDecay = "warmup_stable_decay"

    /// The `lr_scheduler_kwargs` that it takes.
    var kwargs: [String] {
        switch self {
        case .constant, .constantWithWarmup, .linear: []
        case .cosine, .cosineWithRestarts: ["num_cycles"]
        case .cosineWithMinLr: ["num_cycles", "min_lr", "min_lr_rate"]
        case .polynomial: ["lr_end", "power"]
        case .inverseSqrt: ["timescale"]
        case .warmupStableDecay:
            [
                "num_decay_steps", "num_stable_steps", "warmup_type", "decay_type",
                "min_lr_ratio", "num_cycles",
            ]
        }
    }
}

extension TruncationMode: ConfigChoice {}

/// A form in which a run's metrics are written beside `metrics.jsonl`.
public enum ReportTarget: String, Codable, CaseIterable, Hashable, Sendable, ConfigChoice {
    /// An event file in `runs`, which TensorBoard shows.
    case tensorboard
    /// A page, `report.html`, when the run ends.
    case html
}

extension TrainedBiases: ConfigChoice {}

extension CorDAConfig.Method: ConfigChoice {}

extension LoRAGAConfig.Direction: ConfigChoice {}

extension LoRAGAConfig.Scale: ConfigChoice {}

extension LoRAInitialization: ConfigParsable {
    package static var expectation: String {
        "one of true, false, gaussian, orthogonal, pissa, pissa_niter_N, olora, loftq, eva, corda, lora_ga"
    }
    package static var placeholder: String { "true|false|gaussian|pissa|..." }

    package init?(_ value: OptionValue) {
        switch value.content {
        case .boolean(let standard): self = standard ? .kaimingUniform : .random
        case .string(let name): self.init(name: name)
        default: return nil
        }
    }

    package var optionValue: OptionValue {
        switch self {
        case .kaimingUniform: OptionValue(.boolean(true))
        case .random: OptionValue(.boolean(false))
        default: OptionValue(.string(name))
        }
    }
}

/// What happens to a step whose loss or gradients are infinite or NaN.
public enum NonFinitePolicy: String, Codable, CaseIterable, Hashable, Sendable, ConfigChoice {
    /// The run ends with an error that names step, row and layer; nothing was updated.
    case stop
    /// The step is left out, and a warning says so; too many in a row end the run.
    case skip
}

/// Which linears an adapter goes on, by PEFT's rules for `target_modules`.
///
/// In a file: a list of names; the word `all-linear`; or a string, read as a regular expression when
/// it holds any of `*+?()[]{}|^$\`, else as one name. As a flag: the same, with commas or spaces
/// between names. Differs from PEFT, where a string is a regular expression always, so that the
/// string `q_proj` matches nothing.
public enum ModuleSelection: Hashable, Sendable {
    /// Modules whose path is one of these or ends with "." and one of these.
    case names([String])
    /// Modules whose whole path matches the regular expression.
    case pattern(String)
    /// Every linear but the output head.
    case allLinear

    /// Reads a string by the rules above.
    public init(_ text: String) {
        if text == "all-linear" {
            self = .allLinear
        } else if text.contains(where: { "*+?()[]{}|^$\\".contains($0) }) {
            self = .pattern(text)
        } else {
            self = .names([text])
        }
    }
}

extension ModuleSelection: Codable {
    /// Reads a list of names or a string.
    public init(from decoder: any Decoder) throws {
        let container = try decoder.singleValueContainer()
        if let names = try? container.decode([String].self) {
            self = .names(names)
        } else {
            self = Self(try container.decode(String.self))
        }
    }

    /// Writes a list of names or a string.
    public func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        switch self {
        case .names(let names): try container.encode(names)
        case .pattern(let pattern): try container.encode(pattern)
        case .allLinear: try container.encode("all-linear")
        }
    }
}

extension ModuleSelection: ConfigParsable {
    package static var expectation: String { "a list of names, a regular expression or all-linear" }
    package static var placeholder: String { "NAME,...|REGEX|all-linear" }
    package static var arity: ConfigArity { .many }

    package init?(_ value: OptionValue) {
        if let text = String(value) {
            self = Self(text)
        } else if let names = [String](value) {
            self = .names(names)
        } else {
            return nil
        }
    }

    package static func value(ofArguments arguments: [String]) -> OptionValue {
        if arguments.count == 1, let only = arguments.first {
            if case .names = Self(only) { return [String].value(ofArguments: [only]) }
            return OptionValue(.string(only))
        }
        return [String].value(ofArguments: arguments)
    }

    package var optionValue: OptionValue {
        switch self {
        case .names(let names): names.optionValue
        case .pattern(let pattern): pattern.optionValue
        case .allLinear: "all-linear".optionValue
        }
    }
}

/// In a file: a list of tokens, or a map of such by layer. As a flag: tokens, or a map in braces.
extension TrainedTokenIndices: ConfigParsable {
    package static var expectation: String { "a list of tokens, or a map of such by layer" }
    package static var placeholder: String { [Int].placeholder }
    package static var arity: ConfigArity { .many }

    package init?(_ value: OptionValue) {
        if let tokens = [Int](value) {
            self = .embedding(tokens)
        } else if let layers = [String: [Int]](value) {
            self = .layers(layers)
        } else {
            return nil
        }
    }

    package static func value(ofArguments arguments: [String]) -> OptionValue {
        arguments.first?.hasPrefix("{") == true
            ? [String: [Int]].value(ofArguments: arguments) : [Int].value(ofArguments: arguments)
    }

    package var optionValue: OptionValue {
        switch self {
        case .embedding(let tokens): tokens.optionValue
        case .layers(let layers): layers.optionValue
        }
    }
}
