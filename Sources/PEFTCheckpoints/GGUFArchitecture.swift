import Foundation

/// How one model family is written in GGUF: its tensor names, what was done to its tensors, and its configuration.
struct GGUFArchitecture: Sendable {
    /// How the rows of a block's tensor are ordered, other than in Hugging Face's files.
    enum RowOrder: Sendable {
        /// The two halves of each query head alternate, for llama.cpp's rotary embedding.
        case interleavedQueries
        /// The two halves of each key head alternate.
        case interleavedKeys
        /// All heads' queries, then keys, then values; in Hugging Face's files each head has its own three together.
        case queriesKeysValues
    }

    /// The `model_type` and `architectures` of Hugging Face.
    let modelType: String
    let className: String
    /// Hugging Face's path of the blocks, without their numbers.
    var layers = "model.layers"
    /// Names outside the blocks, without ".weight" or ".bias".
    let names: [String: String]
    /// Names inside a block, without "blk.N." and ".weight" or ".bias".
    let blockNames: [String: String]
    /// Tensors of a block, by the name in `blockNames`, whose rows are in another order.
    var rowOrders: [String: RowOrder] = [:]
    /// What llama.cpp's converter adds to the weight of every norm.
    var normOffset = 0.0
    /// The key of what is added in every norm, without the architecture's prefix.
    var normEpsilonKey = "attention.layer_norm_rms_epsilon"
    /// The same in Hugging Face's configuration.
    var normEpsilonName = "rms_norm_eps"
    /// Whether the metadata may ask for windows.
    var hasWindow = false
    /// Whether the metadata may rotate a part of each head only.
    var rotatesPart = false
    /// The tensors of all experts of a block, by Hugging Face's names, and those in the file that have the rows of each expert, in order;
    /// empty for a family without experts.
    var expertTensors: [String: [String]] = [:]
    /// Whether the file may hold divisors of the rotary frequencies for short and long sequences.
    var hasLongRoPE = false
    /// Names of Hugging Face's for keys that other families share.
    var attributes: [String: String] = [:]
    /// The keys of the configuration that the family alone has.
    let settings: @Sendable (GGUFHyperParameters) throws(CheckpointError) -> [String: Any]

    /// The architecture of `file`.
    ///
    /// - Throws: `CheckpointError.unsupported` for a family that is not in the table.
    static func of(_ file: GGUFFile) throws(CheckpointError) -> GGUFArchitecture {
        let name = file.metadata.string("general.architecture") ?? "none"
        // Llama and Mixtral share a name.
        if name == "llama", let count = file.metadata.int("llama.expert_count"), count > 0 {
            return mixtral
        }
        guard let architecture = table[name] else {
            throw .unsupported(
                path: file.file.url.path, reason: "the GGUF architecture is \(name)",
                remedy: "supported are " + table.keys.sorted().joined(separator: ", "))
        }
        return architecture
    }

    /// The Hugging Face name of a tensor; nil if the family has no such tensor.
    func huggingFaceName(_ name: String) -> String? {
        guard let dot = name.lastIndex(of: "."), [".weight", ".bias"].contains(name[dot...]) else {
            return nil
        }
        let suffix = name[dot...]
        if let mapped = names[String(name[..<dot])] { return mapped + suffix }
        let parts = name[..<dot].split(separator: ".", omittingEmptySubsequences: false)
        guard parts.count == 3, parts[0] == "blk", let layer = Int(parts[1]),
            let mapped = blockNames[String(parts[2])]
        else { return nil }
        return "\(layers).\(layer).\(mapped)\(suffix)"
    }

    /// The tensors that the model needs whole and the file has in pieces, by Hugging Face's names.
    ///
    /// - Parameter shapes: of the stored tensors, by their names in the file.
    /// - Returns: the wholes all of whose parts are stored.
    func expertTensors(_ shapes: [String: [Int]]) -> [String: PiecedTensor] {
        var wholes: [String: PiecedTensor] = [:]
        for (whole, names) in expertTensors {
            for layer in 0..<shapes.count {
                let stored = names.map { "blk.\(layer).\($0).weight" }
                let found = stored.compactMap { shapes[$0] }
                guard found.count == stored.count, let shape = found.first, shape.count == 3,
                    found.allSatisfy({ $0 == shape })
                else { continue }
                let size = shape[1] * shape[2]
                let pieces = (0..<shape[0]).flatMap { expert in
                    stored.map {
                        PiecedTensor.Piece(name: $0, elements: expert * size..<(expert + 1) * size)
                    }
                }
                wholes["\(layers).\(layer).\(whole)"] = PiecedTensor(
                    shape: [shape[0], shape[1] * stored.count, shape[2]], pieces: pieces)
            }
        }
        return wholes
    }

    /// How the rows of a tensor are ordered; nil if as in Hugging Face's files.
    func rowOrder(_ name: String) -> RowOrder? {
        name.split(separator: ".").dropFirst(2).first.flatMap { rowOrders[String($0)] }
    }

    /// A `config.json` with what the metadata says, in Hugging Face's keys.
    ///
    /// - Throws: `CheckpointError` if keys are missing, or ask for something that is not supported.
    func configuration(_ file: GGUFFile) throws(CheckpointError) -> Data {
        let values = try GGUFHyperParameters(file, self)
        var config: [String: Any] = [
            "architectures": [className],
            "model_type": modelType,
            "hidden_act": "silu",
            "hidden_size": values.hiddenSize,
            "intermediate_size": values.intermediateSize,
            "num_hidden_layers": values.numHiddenLayers,
            "num_attention_heads": values.numAttentionHeads,
            "num_key_value_heads": values.numKeyValueHeads,
            "head_dim": values.headDim,
            normEpsilonName: values.normEpsilon,
            "rope_theta": values.ropeTheta,
            "max_position_embeddings": values.maxPositionEmbeddings,
            "vocab_size": values.vocabSize,
            "tie_word_embeddings": file.info("output.weight") == nil,
        ]
        config["rope_scaling"] = try values.ropeScaling()
        for (key, name) in [("bos", "bos"), ("eos", "eos"), ("pad", "padding")] {
            config["\(key)_token_id"] = file.metadata.int("tokenizer.ggml.\(name)_token_id")
        }
        config.merge(try settings(values)) { $1 }
        for (shared, own) in attributes { config[own] = config.removeValue(forKey: shared) }
        do {
            return try JSONSerialization.data(
                withJSONObject: config, options: [.prettyPrinted, .sortedKeys])
        } catch {
            throw .malformed(
                path: file.file.url.path, reason: "a hyper-parameter is not a finite number",
                remedy: "convert the model again")
        }
    }
}
