import Foundation

/// The hyper-parameters of a Llama-like model in GGUF metadata, under Hugging Face's names.
///
/// - Source: llama.cpp gguf-py/gguf/constants.py:Keys and src/llama-model.cpp:load_hparams.
struct GGUFHyperParameters {
    let hiddenSize: Int
    let intermediateSize: Int
    let numHiddenLayers: Int
    let numAttentionHeads: Int
    let numKeyValueHeads: Int
    let headDim: Int
    let rmsNormEps: Double
    let ropeTheta: Double
    let maxPositionEmbeddings: Int
    let vocabSize: Int

    /// Reads the hyper-parameters of `file`.
    ///
    /// - Throws: `CheckpointError.malformed` with every missing key; `CheckpointError.unsupported` for settings
    ///   that change the mathematics in a way that is not read here.
    init(_ file: GGUFFile) throws(CheckpointError) {
        let metadata = file.metadata
        let prefix = metadata.string("general.architecture") ?? ""
        var missing: [String] = []
        func required(_ key: String) -> Int {
            if let value = metadata.int("\(prefix).\(key)"), value > 0 { return value }
            missing.append("\(prefix).\(key)")
            return 1
        }
        hiddenSize = required("embedding_length")
        intermediateSize = required("feed_forward_length")
        numHiddenLayers = required("block_count")
        numAttentionHeads = required("attention.head_count")
        maxPositionEmbeddings = required("context_length")
        numKeyValueHeads =
            metadata.int("\(prefix).attention.head_count_kv") ?? numAttentionHeads
        headDim =
            metadata.int("\(prefix).attention.key_length") ?? hiddenSize / numAttentionHeads
        ropeTheta = metadata.double("\(prefix).rope.freq_base") ?? 10_000
        let epsilonKey = "\(prefix).attention.layer_norm_rms_epsilon"
        rmsNormEps = metadata.double(epsilonKey) ?? 0
        if metadata.double(epsilonKey) == nil { missing.append(epsilonKey) }
        let embedding = file.info("token_embd.weight")
        vocabSize = embedding?.shape.first ?? 0
        if embedding == nil { missing.append("the tensor token_embd.weight") }
        guard missing.isEmpty else {
            throw .malformed(
                path: file.file.url.path,
                reason: "missing, or not a positive number: " + missing.joined(separator: ", "),
                remedy: "convert the model again with a current llama.cpp")
        }
        try check(file, prefix: prefix)
    }

    /// Refuses settings that the configuration cannot express.
    private func check(_ file: GGUFFile, prefix: String) throws(CheckpointError) {
        let metadata = file.metadata
        var reasons: [String] = []
        let rotated = metadata.int("\(prefix).rope.dimension_count") ?? headDim
        if rotated != headDim {
            reasons.append("\(rotated) of \(headDim) dimensions of a head are rotated")
        }
        let valueLength = metadata.int("\(prefix).attention.value_length") ?? headDim
        if valueLength != headDim {
            reasons.append("values have \(valueLength) dimensions, keys \(headDim)")
        }
        if let scaling = metadata.string("\(prefix).rope.scaling.type"), scaling != "none" {
            reasons.append("RoPE is scaled (\(scaling))")
        }
        if let factor = metadata.double("\(prefix).rope.scale_linear"), factor != 1 {
            reasons.append("RoPE is scaled (linear)")
        }
        if let numExperts = metadata.int("\(prefix).expert_count"), numExperts > 0 {
            reasons.append("the model is a mixture of \(numExperts) experts")
        }
        if let numParts = metadata.int("split.count"), numParts > 1 {
            reasons.append(
                "the file is one of \(numParts) parts (join them: llama-gguf-split --merge)")
        }
        guard reasons.isEmpty else {
            throw .unsupported(
                path: file.file.url.path, reason: reasons.joined(separator: ", "),
                remedy: "this is not supported: take another model or file")
        }
    }
}
