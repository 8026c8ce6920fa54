import Foundation
import PEFTAdapters
import PEFTCheckpoints
import PEFTModels
import PEFTQuantization
import Torch

/// Writes a model with an adapter in its weights: what `peft merge` does.
public enum Merge {
    /// Adds the adapter's update to each weight, `W + Δ` in float32, and writes the model.
    ///
    /// The model appears whole or not at all, and nothing that is there is replaced.
    ///
    /// - Parameter options: adapter, base, and how the model is stored.
    /// - Returns: what was written, and how much of the update is left in it.
    /// - Throws: ``MergeError``, ``Diagnosis`` with ``DiagnosisCode/otherBase``, or an error of the files, naming what, where,
    ///   expected, found and the remedy.
    /// - Memory: the adapter, and one weight a few times in float32.
    /// - Source: peft 0.21.2 `tuners/lora/layer.py:Linear.merge`. Differs from it: the sum is made in float32 and rounded once, and
    ///   a tied head that is adapted becomes a tensor of its own.
    public static func run(_ options: MergeOptions) throws -> MergeReport {
        try ComputingProcess.prepare(numThreads: options.threads)
        let output = URL(filePath: options.output)
        try AtomicFolder.requireFree(output)
        let folder = try AdapterFolder.read(URL(filePath: options.adapter))
        let name = try AdapterMethods.readConfig(adapterConfigJSON: folder.configuration)
            .baseModelNameOrPath
        let files = try BaseModelFiles.open(base(options.model, of: folder, name))
        let (storage, base) = try storage(options, folder, files)
        let model = try ExportedModel(files, adapter: folder, storage: storage)
        func verify(_ layers: [UpdateSurvival], stored: String) throws {
            try model.verify(ignoresFingerprint: options.ignoreBaseFingerprint)
            try requireSurvival(layers, in: stored, options)
        }
        guard options.format == .huggingFace else {
            return try writeGGUF(model, options, base: base, verify)
        }
        let dtype = options.dtype.torch
        let quantization = options.quantize.config(
            blockSize: options.quantBlockSize, isDouble: options.doubleQuant)
        let stored = quantization?.description ?? dtype?.name ?? "the element types of the base"
        let result = try ExportedFolder(
            model: model, dtype: dtype, quantization: quantization,
            maxShardBytes: options.maxShardSize.bytes
        ).write(to: output) { try verify($0, stored: stored) }
        return MergeReport(
            output: options.output, base: base, storage: stored, files: result.written.files,
            sizeBytes: result.written.sizeBytes, layers: result.layers, notes: result.notes)
    }

    /// Writes a GGUF file like the base's.
    private static func writeGGUF(
        _ model: ExportedModel, _ options: MergeOptions, base: String,
        _ verify: ([UpdateSurvival], String) throws -> Void
    ) throws -> MergeReport {
        guard model.files.format == .gguf else {
            throw MergeError.baseIsNoGGUF(model: model.files.url.path)
        }
        let format: GGUFBlockFormat = options.format == .ggufF16 ? .f16 : .q8_0
        let file = ExportedGGUF(model: model, format: format)
        let result = try file.write(to: URL(filePath: options.output)) {
            try verify($0, format.name)
        }
        return MergeReport(
            output: options.output, base: base, storage: format.name,
            files: [URL(filePath: options.output).lastPathComponent], sizeBytes: result.sizeBytes,
            layers: result.layers)
    }

    /// The base model of an adapter: the one that is given, else the one that its configuration names.
    ///
    /// - Throws: ``MergeError/noBase(adapter:name:)``.
    static func base(
        _ model: String?, of folder: AdapterFolder, _ name: String?
    ) throws(MergeError) -> URL {
        if let model { return URL(filePath: model) }
        guard let name, FileManager.default.fileExists(atPath: name) else {
            throw .noBase(adapter: folder.url.path, name: name)
        }
        return URL(filePath: name)
    }

    /// What the update is added to, and that in words.
    private static func storage(
        _ options: MergeOptions, _ folder: AdapterFolder, _ files: BaseModelFiles
    ) throws(MergeError) -> (QuantizationConfig?, String) {
        if let stored = files.source.quantizedLayers?.storage {
            guard options.baseQuantize == .auto else {
                throw .baseIsQuantized(model: files.url.path, storage: stored.description)
            }
            return (nil, "the base in \(stored), decoded")
        }
        func config(_ type: QuantType) -> QuantizationConfig {
            QuantizationConfig(
                quantType: type, blockSize: options.quantBlockSize,
                usesDoubleQuantization: options.doubleQuant)
        }
        let storage: QuantizationConfig? =
            switch options.baseQuantize {
            case .auto: folder.baseStorage.flatMap { QuantizationConfig($0) }
            case .none: nil
            case .nf4: config(.nf4)
            case .fp4: config(.fp4)
            }
        guard let storage else { return (nil, "the numbers of the base's files") }
        return (storage, "the base in \(storage), decoded")
    }

    /// Refuses a model in which most of the update is lost.
    private static func requireSurvival(
        _ layers: [UpdateSurvival], in storage: String, _ options: MergeOptions
    ) throws(MergeError) {
        let survived = UpdateSurvival.total(layers, path: "all").survived
        guard survived < UpdateSurvival.threshold, !options.allowLostUpdate else { return }
        let worst = layers.sorted { $0.survived < $1.survived }.prefix(3).map {
            "\($0.path) \(MergeError.percent($0.survived))"
        }
        throw .updateLost(survived: survived, storage: storage, worst: worst)
    }
}

extension ExportDType {
    /// The dtype; nil for each tensor's own.
    var torch: DType? {
        switch self {
        case .auto: nil
        case .bfloat16: .bfloat16
        case .float16: .float16
        case .float32: .float32
        }
    }
}
