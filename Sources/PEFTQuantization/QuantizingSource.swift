public import PEFTLayers
public import Torch

/// Quantizes the linear weights of another source to 4 bits while they are read.
///
/// A weight's full-precision tensor dies before the next one is read, so loading takes the quantized model plus one tensor. It
/// is quantized from the file's own numbers; embeddings, norms, biases and skipped layers come from the dense source, which
/// may cast them to the compute dtype.
public final class QuantizingSource: ParameterSource {
    /// The layers that transformers leaves alone: the output head.
    public static let defaultSkippedModules = ["lm_head"]

    private let base: any ParameterSource
    private let dense: any ParameterSource
    private let config: QuantizationConfig
    private let isQuantized: (String) -> Bool
    private let placement: any TensorPlacement

    /// Decorates a source.
    ///
    /// - Parameters:
    ///   - base: where the weights to quantize come from, in the file's dtype.
    ///   - dense: where everything else comes from; nil for the same source.
    ///   - config: codebook, block size, double quantization.
    ///   - skippedModules: layers that stay as they are: whole components of a path, one or more (`lm_head`, `mlp.gate_proj`, `layers.3`).
    ///   - placement: where codes and scales are kept, and which of them this process makes.
    /// - Throws: `QuantizationError.invalidBlockSize`.
    public convenience init(
        _ base: any ParameterSource, dense: (any ParameterSource)? = nil,
        config: QuantizationConfig = .init(),
        skippedModules: [String] = defaultSkippedModules,
        placement: any TensorPlacement = WholePlacement()
    ) throws(QuantizationError) {
        let skipped = skippedModules.map { $0.split(separator: ".") }
        try self.init(
            base, dense: dense, config: config,
            isQuantized: { path in
                let components = path.split(separator: ".")
                return !skipped.contains { components.contains($0) }
            }, placement: placement)
    }

    /// Decorates a source.
    ///
    /// - Parameters:
    ///   - base: where the weights to quantize come from, in the file's dtype.
    ///   - dense: where everything else comes from; nil for the same source.
    ///   - config: codebook, block size, double quantization.
    ///   - isQuantized: whether the layer at a path is quantized.
    ///   - placement: where codes and scales are kept, and which of them this process makes.
    /// - Throws: `QuantizationError.invalidBlockSize`.
    public init(
        _ base: any ParameterSource, dense: (any ParameterSource)? = nil,
        config: QuantizationConfig, isQuantized: @escaping (String) -> Bool,
        placement: any TensorPlacement = WholePlacement()
    ) throws(QuantizationError) {
        try config.validate()
        self.base = base
        self.dense = dense ?? base
        self.config = config
        self.placement = placement
        self.isQuantized = isQuantized
    }

    /// The dense source's tensor.
    public func tensor(at path: String, shape: [Int]) throws -> Tensor {
        try dense.tensor(at: path, shape: shape)
    }

    /// A 4-bit weight, or the dense source's for a skipped layer.
    ///
    /// - Throws: the base source's error, or `QuantizationError` for a weight that is not float32, bfloat16 or float16, or that
    ///   holds a NaN or an infinity.
    public func linearWeight(at path: String, shape: [Int]) throws -> any LinearWeight {
        guard isQuantized(path) else { return try dense.linearWeight(at: path, shape: shape) }
        return FourBitWeight(
            try FourBitTensor(path: path, shape: shape, config: config, placement: placement) {
                try base.elements($0, at: path, shape: shape)
            })
    }
}
