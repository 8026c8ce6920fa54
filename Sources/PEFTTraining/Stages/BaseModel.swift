public import Foundation
public import PEFTCheckpoints
public import PEFTLayers
public import PEFTModels
public import PEFTQuantization
public import Torch

/// How a base model is read: what is quantized, and what is computed with.
public struct BaseModelOptions: Sendable, Hashable {
    /// The storage of the linear weights; nil keeps them dense, in the compute dtype.
    public var quantization: QuantizationConfig?
    /// The dtype of activations and of everything that is not quantized.
    public var computeDType: DType

    /// Describes how to read a base model.
    public init(quantization: QuantizationConfig?, computeDType: DType) {
        self.quantization = quantization
        self.computeDType = computeDType
    }

    /// What a model that was read so trains with, in the terms of the rules.
    func precision(_ lossScaling: LossScaling) -> PrecisionRules.Combination {
        let storage: PrecisionRules.Storage =
            switch quantization?.quantType {
            case .nf4: .nf4
            case .fp4: .fp4
            case nil: .dense
            }
        return PrecisionRules.Combination(
            storage: storage, compute: computeDType, lossScaling: lossScaling)
    }
}

/// The first stage: a frozen base model in memory, quantized while it was read.
///
/// Only ``AdaptedModel`` is made from it, so adapters cannot be attached before quantization.
public final class BaseModel {
    /// The network.
    public let model: any CausalLanguageModel
    /// Its parameters and linear layers.
    public let registry: ModuleRegistry
    /// The files that it came from.
    public let files: BaseModelFiles
    /// How it was read.
    public let options: BaseModelOptions

    /// The family, as `config.json` names it: `llama`.
    public let architecture: String
    /// What tells this base from others, by the numbers of its files; see ``BaseFingerprint``.
    public let fingerprint: BaseFingerprint

    /// Reads a model folder or GGUF file.
    ///
    /// All names and shapes are compared with what the model needs before any weight is read.
    ///
    /// - Parameters:
    ///   - url: a Hugging Face folder or a GGUF file.
    ///   - options: storage and compute dtype.
    /// - Throws: `CheckpointError`, `ModelError` or `QuantizationError` naming what does not fit.
    /// - Memory: the model as stored plus one tensor.
    public init(at url: URL, options: BaseModelOptions) throws {
        files = try BaseModelFiles.open(url)
        self.options = options
        architecture = try ModelRegistry.familyName(files.configuration)
        let shapes = ShapeSource()
        _ = try ModelRegistry.makeModel(
            config: files.configuration, Scope(registry: ModuleRegistry(), source: shapes))
        try files.source.validate(expected: shapes.shapes)

        let stored = FingerprintingSource(files.source)
        let dense = CastingSource(stored, dtype: options.computeDType)
        let source: any ParameterSource =
            if let config = options.quantization {
                try QuantizingSource(stored, dense: dense, config: config)
            } else {
                dense
            }
        registry = ModuleRegistry()
        model = try ModelRegistry.makeModel(
            config: files.configuration, Scope(registry: registry, source: source))
        try files.source.verifyAllConsumed()
        fingerprint = stored.fingerprint
    }
}
