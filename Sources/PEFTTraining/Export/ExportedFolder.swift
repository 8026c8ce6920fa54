import Foundation
import PEFTAdapters
import PEFTCheckpoints
import PEFTLayers
import PEFTModels
import PEFTQuantization
import Torch

/// Writes a model as a Hugging Face folder: weights in shards, configuration, tokenizer.
///
/// The folder appears whole or not at all.
struct ExportedFolder {
    /// What is written.
    let model: ExportedModel
    /// The element type; nil for each tensor's own, bfloat16 where the files hold no plain numbers of a folder.
    let dtype: DType?
    /// How linear weights are stored in 4 bits; nil for not at all.
    let quantization: QuantizationConfig?
    /// The most bytes of one weight file.
    let maxShardBytes: Int

    /// Files beside the weights that belong to a model.
    private static let companions = [
        "generation_config.json", "tokenizer.json", "tokenizer_config.json",
        "special_tokens_map.json", "added_tokens.json", "vocab.json", "merges.txt",
        "tokenizer.model", "chat_template.jinja", "chat_template.json",
    ]

    /// What was written.
    struct Result {
        var written: ShardedSafetensors.Written
        /// What is left of the update, layer by layer.
        var layers: [UpdateSurvival]
        /// What the user should know besides.
        var notes: [String]
    }

    /// Writes the folder.
    ///
    /// - Parameters:
    ///   - url: where it is to be; nothing, or an empty folder.
    ///   - verify: called when all weights are written, with what is left of the update; what it throws leaves nothing behind.
    /// - Returns: what was written, and what is left of the update.
    /// - Throws: `CheckpointError`; what the model and `verify` throw.
    /// - Memory: one weight a few times in float32.
    func write(
        to url: URL, verify: ([UpdateSurvival]) throws -> Void
    ) throws -> Result {
        if quantization != nil { try model.requireNoExperts() }
        let record = SurvivalRecord()
        let own = FingerprintingSource(ShapeSource())
        let experts = LastExperts()
        var result: Result?
        try AtomicFolder.write(to: url) { folder in
            let written = try ShardedSafetensors.write(
                try model.entries.flatMap { try tensors($0, record, own, experts) },
                numParameters: model.numElements,
                maxShardBytes: maxShardBytes, to: folder)
            let layers = record.layers(in: model.entries.map(\.path))
            try verify(layers)
            try AtomicFile.write(
                configuration(own.fingerprint), to: folder.appending(path: "config.json"))
            let notes = try copyCompanions(to: folder)
            result = Result(written: written, layers: layers, notes: notes)
        }
        guard let result else { preconditionFailure("the folder was not filled") }
        return result
    }

    // MARK: - Weights

    private func tensors(
        _ entry: ExportedModel.Entry, _ record: SurvivalRecord, _ own: FingerprintingSource,
        _ experts: LastExperts
    ) throws -> [SafetensorsTensor] {
        let dtype = dtype(of: entry)
        if model.files.source.isPieced(entry.path),
            let pieces = model.conventions.expertPieces(of: entry.path, shape: entry.shape)
        {
            return pieces.map { piece in
                SafetensorsTensor(
                    name: model.conventions.storedName(piece.name), shape: piece.shape, dtype: dtype
                ) {
                    let whole = try experts.tensor(at: entry.path) {
                        try stored(entry, dtype, record)
                    }
                    return try whole.reshape([-1, entry.shape[2]])
                        .narrow(0, piece.firstRow, piece.shape[0])
                }
            }
        }
        if let quantization, entry.isStoredWeight {
            return try fourBitTensors(entry, dtype, quantization, record, own)
        }
        let isTransposed = model.conventions.isTransposed(entry.path, shape: entry.shape)
        let shape = isTransposed ? entry.shape.reversed() : entry.shape
        let name = model.conventions.storedName(entry.path)
        let tensor = SafetensorsTensor(name: name, shape: shape, dtype: dtype) {
            let value = try stored(entry, dtype, record)
            try own.note(value, at: entry.path)
            return isTransposed ? try value.transposed(0, 1) : value
        }
        return [tensor]
    }

    /// A weight in 4 bits: what the numbers in the element type are quantized to.
    ///
    /// It is quantized twice, for its scales, which come first in the file, and for its codes: so these are never all in memory.
    private func fourBitTensors(
        _ entry: ExportedModel.Entry, _ dtype: DType, _ config: QuantizationConfig,
        _ record: SurvivalRecord, _ own: FingerprintingSource
    ) throws -> [SafetensorsTensor] {
        func quantized() throws -> (content: ExportedModel.Content, tensor: FourBitTensor) {
            let content = try model.content(of: entry)
            let numbers =
                switch content {
                case .unchanged(let value): value
                case .changed(_, let merged): merged
                }
            let tensor = try FourBitTensor(
                quantizing: numbers.to(dtype).contiguous(), config: config, path: entry.path)
            return (content, tensor)
        }
        let (content, tensor) = try quantized()
        let decoded = try tensor.dequantized(to: .float32)
        try own.note(decoded, at: entry.path)
        if case .changed(let base, let merged) = content, merged !== base {
            record.add(
                try UpdateSurvival(path: entry.path, base: base, merged: merged, stored: decoded))
        }
        return try BitsAndBytesFormat.tensors(of: entry.path, tensor) {
            try quantized().tensor.packed
        }
    }

    /// The numbers of a tensor in the element type that they are stored in.
    private func stored(
        _ entry: ExportedModel.Entry, _ dtype: DType, _ record: SurvivalRecord
    ) throws -> Tensor {
        switch try model.content(of: entry) {
        case .unchanged(let value): return try value.to(dtype)
        case .changed(let base, let merged):
            let value = try merged.to(dtype)
            guard try value.allFinite() else { throw MergeError.notFinite(path: entry.path) }
            if merged !== base {
                record.add(
                    try UpdateSurvival(
                        path: entry.path, base: base, merged: merged, stored: value.to(.float32)))
            }
            return value
        }
    }

    private func dtype(of entry: ExportedModel.Entry) -> DType {
        if let dtype { return dtype }
        guard model.files.format == .huggingFace else { return .bfloat16 }
        return model.dtypeInFiles(of: entry) ?? .bfloat16
    }

    // MARK: - Files beside the weights

    /// The base's configuration, as far as it still holds.
    private func configuration(_ own: BaseFingerprint) throws -> Data {
        guard case .object(let base) = try ConfigValue(json: model.files.configuration) else {
            throw CheckpointError.malformed(
                path: model.files.url.path, reason: "config.json is no object",
                remedy: "the file is damaged: copy or download it again")
        }
        var keys = base
        if model.untiedHead != nil { keys["tie_word_embeddings"] = .bool(false) }
        if let dtype = dtype ?? (model.files.format == .gguf ? .bfloat16 : nil) {
            let names = ["dtype", "torch_dtype"].filter { keys[$0] != nil }
            for name in names.isEmpty ? ["dtype"] : names { keys[name] = .string(dtype.name) }
        }
        let removed = [
            "quantization_config", BaseModelFiles.baseFingerprintKey, BaseModelFiles.fingerprintKey,
        ]
        for key in removed { keys[key] = nil }
        if let quantization {
            let weight = model.entries.first(where: \.isStoredWeight)
            keys["quantization_config"] = BitsAndBytesFormat.configuration(
                quantization, computeDType: weight.map(dtype(of:)) ?? .bfloat16)
            if !model.isMerged {
                keys[BaseModelFiles.baseFingerprintKey] = .string(
                    try model.fingerprint.description)
                keys[BaseModelFiles.fingerprintKey] = .string(own.description)
            }
        }
        guard keys != base || model.files.format == .gguf else { return model.files.configuration }
        return Data((ConfigValue.object(keys).pythonJSON + "\n").utf8)
    }

    /// Copies the tokenizer and what else lies beside the base's weights.
    private func copyCompanions(to folder: URL) throws -> [String] {
        guard model.files.format == .huggingFace else {
            return [
                "the tokenizer of a GGUF file is not written: copy tokenizer.json and "
                    + "tokenizer_config.json of the model into \(folder.lastPathComponent)"
            ]
        }
        let source = model.files.url
        for name in Self.companions {
            let file = source.appending(path: name)
            guard FileManager.default.fileExists(atPath: file.path) else { continue }
            try AtomicFile.write(MappedFile(file).contents(), to: folder.appending(path: name))
        }
        return []
    }
}

/// The experts of the block that is being written: a file has their tensors one by one, and in no order of the wholes.
///
/// - Memory: all experts of one block, in the element type of the file.
private final class LastExperts {
    private var module = ""
    private var wholes: [String: Tensor] = [:]

    /// The whole at a path, made once for all its pieces.
    func tensor(at path: String, _ make: () throws -> Tensor) throws -> Tensor {
        let module = String(path[..<(path.lastIndex(of: ".") ?? path.endIndex)])
        if module != self.module { (self.module, wholes) = (module, [:]) }
        if let whole = wholes[path] { return whole }
        let whole = try make()
        wholes[path] = whole
        return whole
    }
}
