import Foundation
import PEFTAdapters
import PEFTCheckpoints
import PEFTModels
import PEFTTokenizers
import Torch

/// What `score` and `generate` work on: a base model, perhaps with adapters, and its tokenizer.
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
        let folders = options.adapter.paths.map { URL(filePath: $0) }
        // Only one adapter can be the start of what the base's weights are without.
        let alone = folders.count == 1 ? folders[0] : nil
        var reading = BaseModelOptions(
            quantization: options.quantize.config(
                blockSize: options.quantBlockSize, isDouble: options.doubleQuant),
            computeDType: options.dtype.torch, device: try device ?? options.device.device())
        if let alone { try reading.fit(loading: alone) }
        base = try BaseModel(at: URL(filePath: options.model), options: reading)
        if let alone {
            _ = try AdaptedModel(
                base, loading: alone, isTrainable: false,
                ignoresBaseFingerprint: options.ignoreBaseFingerprint)
        } else {
            let adapters = try NamedAdapters(of: base)
            for folder in folders {
                try adapters.load(
                    folder.path, from: folder, for: base,
                    ignoresBaseFingerprint: options.ignoreBaseFingerprint)
            }
            try adapters.activate(adapters.names)
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
