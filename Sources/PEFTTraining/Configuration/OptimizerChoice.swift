package import PEFTLayers

/// How the trainable tensors are updated, named as transformers' `OptimizerNames`; one line a rule in ``rule(_:adapter:)``.
public enum OptimizerChoice: String, Codable, CaseIterable, Hashable, Sendable, ConfigChoice {
    /// ``AdamW``.
    case adamwTorch = "adamw_torch"
    /// ``AdamW8bit``.
    case adamw8bit = "adamw_8bit"
    /// The same under the name of the library that it comes from.
    case adamwBnb8bit = "adamw_bnb_8bit"
    /// ``Adafactor``.
    case adafactor
    /// ``Lion``.
    case lion
    /// The same under transformers' name.
    case lion32bit = "lion_32bit"
    /// ``LoRAFA``, which is PEFT's and has no name in transformers.
    case lorafa
    /// ``SGD``.
    case sgd

    /// Whether the A of every LoRA is frozen.
    var freezesA: Bool { self == .lorafa }

    /// The rule with the configuration's constants.
    ///
    /// - Parameters:
    ///   - config: gives betas and epsilon.
    ///   - adapters: what is trained, as it is, with the layers' paths.
    /// - Returns: the rule.
    /// - Throws: what ``LoRAFA`` throws.
    package func rule(
        _ config: FineTuneConfig, adapters: [(path: String, adapter: any AdapterPart)]
    ) throws -> any UpdateRule {
        switch self {
        case .adamwTorch: config.adamW
        case .adamw8bit, .adamwBnb8bit: AdamW8bit(config.adamW)
        case .adafactor: Adafactor()
        case .lion, .lion32bit: config.lion
        case .lorafa: try LoRAFA(adapters)
        case .sgd: SGD()
        }
    }
}
