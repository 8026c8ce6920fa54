import Foundation

/// The hyper-parameters of a model in GGUF metadata, under Hugging Face's names.
///
/// - Source: llama.cpp gguf-py/gguf/constants.py:Keys and src/llama-model.cpp:load_hparams.
struct GGUFHyperParameters {
    let hiddenSize: Int
    let intermediateSize: Int
    let numHiddenLayers: Int
    let numAttentionHeads: Int
    let numKeyValueHeads: Int
    let headDim: Int
    let normEpsilon: Double
    let ropeTheta: Double
    let maxPositionEmbeddings: Int
    let vocabSize: Int
    private let file: GGUFFile
    private let prefix: String

    /// Reads the hyper-parameters of `file`.
    ///
    /// - Throws: `CheckpointError.malformed` with every missing key; `CheckpointError.unsupported` for settings
    ///   that change the mathematics in a way that is not read here.
    init(_ file: GGUFFile, _ architecture: GGUFArchitecture) throws(CheckpointError) {
        let metadata = file.metadata
        let prefix = metadata.string("general.architecture") ?? ""
        var missing: [String] = []
        func required(_ key: String) -> Int {
            if let value = metadata.int("\(prefix).\(key)"), value > 0 { return value }
            missing.append("\(prefix).\(key)")
            return 1
        }
        self.file = file
        self.prefix = prefix
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
        let epsilonKey = "\(prefix).\(architecture.normEpsilonKey)"
        normEpsilon = metadata.double(epsilonKey) ?? 0
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
        try check(architecture)
    }

    /// An integer of the architecture's own keys.
    func int(_ key: String) -> Int? { file.metadata.int("\(prefix).\(key)") }
    /// A positive integer of the architecture's own keys.
    func required(_ key: String) throws(CheckpointError) -> Int {
        guard let value = int(key), value > 0 else {
            throw .malformed(
                path: file.file.url.path,
                reason: "missing, or not a positive number: \(prefix).\(key)",
                remedy: "convert the model again with a current llama.cpp")
        }
        return value
    }
    /// A number of the architecture's own keys.
    func double(_ key: String) -> Double? { file.metadata.double("\(prefix).\(key)") }
    /// A Boolean of the architecture's own keys.
    func bool(_ key: String) -> Bool? { file.metadata.bool("\(prefix).\(key)") }
    /// Whether the file holds a tensor.
    func hasTensor(_ name: String) -> Bool { file.info(name) != nil }
    /// The share of a head's channels that is rotated.
    var rotatedShare: Double {
        Double(int("rope.dimension_count") ?? headDim) / Double(headDim)
    }

    /// The elements of a float32 tensor, as the doubles of the same shortest decimal form; nil if there is no such tensor.
    func floats(_ name: String) throws(CheckpointError) -> [Double]? {
        guard let info = file.info(name) else { return nil }
        guard info.type.name == "F32" else {
            throw .unsupported(
                path: file.file.url.path, reason: "\(name) is of type \(info.type.name)",
                remedy: "expected F32: convert the model again with a current llama.cpp")
        }
        return file.file.withBytes { bytes in
            let count = info.shape.reduce(1, *)
            return (0..<count).map { index in
                let bits = bytes.loadUnaligned(
                    fromByteOffset: info.byteRange.lowerBound + 4 * index, as: UInt32.self)
                let value = Float(bitPattern: UInt32(littleEndian: bits))
                return Double("\(value)") ?? .nan
            }
        }
    }

    /// The rotary scaling that all families may have, in Hugging Face's keys; nil for none.
    ///
    /// Llama 3's is written as a divisor of each frequency, which is what LongRoPE is with one set for all lengths.
    func ropeScaling() throws(CheckpointError) -> [String: Any]? {
        if let factors = try floats("rope_freqs.weight"), factors.contains(where: { $0 != 1 }) {
            return [
                "rope_type": "longrope", "short_factor": factors, "long_factor": factors,
                "attention_factor": 1.0,
            ]
        }
        guard let method = file.metadata.string("\(prefix).rope.scaling.type"), method != "none"
        else { return nil }
        var scaling: [String: Any] = ["rope_type": method]
        scaling["factor"] = double("rope.scaling.factor")
        scaling["original_max_position_embeddings"] = int("rope.scaling.original_context_length")
        scaling["beta_fast"] = double("rope.scaling.yarn_beta_fast")
        scaling["beta_slow"] = double("rope.scaling.yarn_beta_slow")
        return scaling
    }

    /// Refuses settings that the configuration cannot express.
    private func check(_ architecture: GGUFArchitecture) throws(CheckpointError) {
        var reasons: [String] = []
        let rotated = int("rope.dimension_count") ?? headDim
        if rotated != headDim, !architecture.rotatesPart {
            reasons.append("\(rotated) of \(headDim) dimensions of a head are rotated")
        }
        let valueLength = int("attention.value_length") ?? headDim
        if valueLength != headDim {
            reasons.append("values have \(valueLength) dimensions, keys \(headDim)")
        }
        reasons += scalingReasons(architecture)
        if let window = int("attention.sliding_window"), window > 0, !architecture.hasWindow {
            reasons.append("tokens see a window of \(window) tokens")
        }
        if let numExperts = int("expert_count"), numExperts > 0, architecture.expertTensors.isEmpty
        {
            reasons.append("the model is a mixture of \(numExperts) experts")
        }
        if let numParts = file.metadata.int("split.count"), numParts > 1 {
            reasons.append(
                "the file is one of \(numParts) parts (join them: llama-gguf-split --merge)")
        }
        guard reasons.isEmpty else {
            throw .unsupported(
                path: file.file.url.path, reason: reasons.joined(separator: ", "),
                remedy: "this is not supported: take another model or file")
        }
    }

    private func scalingReasons(_ architecture: GGUFArchitecture) -> [String] {
        var reasons: [String] = []
        let method = file.metadata.string("\(prefix).rope.scaling.type") ?? "none"
        if !["none", "linear", "yarn"].contains(method) {
            reasons.append("RoPE is scaled (\(method))")
        } else if method != "none", double("rope.scaling.factor") == nil {
            reasons.append("RoPE is scaled (\(method)) without a factor")
        }
        if let factor = double("rope.scale_linear"), factor != 1 {
            reasons.append("RoPE is scaled (linear)")
        }
        let isLongRoPE = hasTensor("rope_factors_long.weight")
        if isLongRoPE, !architecture.hasLongRoPE {
            reasons.append("RoPE is scaled (rope_factors_long.weight)")
        }
        for key in ["attn_factor", "yarn_log_multiplier", "yarn_ext_factor", "yarn_attn_factor"]
        where double("rope.scaling.\(key)") != nil && !(key == "attn_factor" && isLongRoPE) {
            reasons.append("RoPE is scaled (\(key))")
        }
        return reasons
    }
}
