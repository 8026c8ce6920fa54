import Foundation
import PEFTCheckpoints
import PEFTQuantization

/// Writes a model with its linear weights in 4 bits: what `peft quantize` does.
public enum Quantize {
    /// Writes a folder whose tensors are those that transformers with bitsandbytes saves, byte for byte.
    ///
    /// The folder is a model of its own: `--model` reads the codes as they are. It says which base it was made of, so that
    /// adapters fit both.
    ///
    /// - Parameter options: the model, the folder, the storage.
    /// - Returns: what was written.
    /// - Throws: an error that names what, where, expected, found and the remedy; nothing is then left behind.
    /// - Memory: the scales of all weights, a byte for 64 elements, and one weight a few times in float32.
    /// - Source: transformers 5.23 `quantizers/quantizer_bnb_4bit.py`; bitsandbytes 0.50.2 `nn/modules.py:Linear4bit`.
    public static func run(_ options: QuantizeOptions) throws -> QuantizeReport {
        try ComputingProcess.prepare(numThreads: options.threads)
        let output = URL(filePath: options.output)
        try AtomicFolder.requireFree(output)
        let files = try BaseModelFiles.open(URL(filePath: options.model))
        if let stored = files.source.quantizedLayers?.storage {
            throw MergeError.isQuantized(model: options.model, storage: stored.description)
        }
        let config = QuantizationConfig(
            quantType: options.quantType == .nf4 ? .nf4 : .fp4,
            blockSize: options.quantBlockSize, usesDoubleQuantization: options.doubleQuant)
        let model = try ExportedModel(files, adapter: nil, storage: nil)
        let result = try ExportedFolder(
            model: model, dtype: options.dtype.torch, quantization: config,
            maxShardBytes: options.maxShardSize.bytes
        ).write(to: output) { _ in try model.verify(ignoresFingerprint: false) }
        return QuantizeReport(
            output: options.output, storage: config.description, files: result.written.files,
            sizeBytes: result.written.sizeBytes, numParameters: model.numElements,
            notes: result.notes)
    }
}
