import Foundation
import PEFTAdapters
import PEFTCheckpoints
import PEFTModels
import PEFTTokenizers
import Torch

/// What `score` and `generate` work on: a base model, perhaps with an adapter, and its tokenizer.
struct LoadedModel {
    let base: BaseModel
    let tokenizer: Tokenizer?

    /// Reads a model as the options of a command describe it.
    ///
    /// - Parameters:
    ///   - options: which model, and how it is read.
    ///   - device: one that the options cannot name; nil for the one that they name.
    /// - Throws: an error naming what does not fit.
    init(_ options: ModelOptions, on device: Device? = nil) throws {
        try ComputingProcess.prepare(numThreads: options.threads)
        base = try BaseModel(
            at: URL(filePath: options.model),
            options: BaseModelOptions(
                quantization: options.quantize.config(
                    blockSize: options.quantBlockSize, isDouble: options.doubleQuant),
                computeDType: options.dtype.torch,
                device: try device ?? options.device.device(),
                start: try options.adapter.flatMap {
                    try WeightStart(loading: URL(filePath: $0))
                }))
        if let adapter = options.adapter {
            _ = try AdaptedModel(
                base, loading: URL(filePath: adapter), isTrainable: false,
                ignoresBaseFingerprint: options.ignoreBaseFingerprint)
        }
        tokenizer = try base.files.makeTokenizer()
    }

    /// The tokenizer, for a command that cannot do without.
    ///
    /// - Throws: ``TrainingError/noTokenizer(model:)``.
    func requireTokenizer() throws(TrainingError) -> Tokenizer {
        guard let tokenizer else { throw .noTokenizer(model: base.files.url.path) }
        return tokenizer
    }
}
