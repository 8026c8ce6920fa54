import Torch

/// What writing takes besides: names and orders of rows, the other way round.
extension GGUFArchitecture {
    /// The name that llama.cpp has for the architecture of a `model_type`; nil if it is not in the table.
    static func named(forModelType type: String) -> (name: String, architecture: GGUFArchitecture)?
    {
        // Mistral's converter writes a Llama.
        let type = type == "mistral" ? "llama" : type
        return table.first { $0.value.modelType == type }.map { ($0.key, $0.value) }
    }

    /// The name in a GGUF file of a Hugging Face path without ".weight"; nil if the family has no such tensor.
    func storedName(ofPath path: String) -> String? {
        if let name = names.first(where: { $0.value == path })?.key { return name }
        let prefix = layers + "."
        guard path.hasPrefix(prefix) else { return nil }
        let rest = path.dropFirst(prefix.count).split(separator: ".", maxSplits: 1)
        guard rest.count == 2, let layer = Int(rest[0]),
            let name = blockNames.first(where: { $0.value == rest[1] })?.key
        else { return nil }
        return "blk.\(layer).\(name)"
    }

    /// The rows of a matrix in the order of GGUF files.
    ///
    /// Of each query and key head the two halves alternate: `[H, 2, D/2, C] -> [H, D/2, 2, C]`; where all three projections are one
    /// matrix, `[H, 3, D, C] -> [3, H, D, C]`.
    ///
    /// - Parameters:
    ///   - matrix: rows in Hugging Face's order, any number of columns.
    ///   - name: of the tensor in the file.
    ///   - numHeads: of queries.
    ///   - numKeyValueHeads: of keys.
    ///   - path: of the file, for errors.
    /// - Returns: contiguous, in the order of the file.
    /// - Throws: `CheckpointError` if the rows do not divide into heads.
    /// - Source: llama.cpp convert_hf_to_gguf.py:LlamaModel.permute; conversion/gptneox.py:GPTNeoXModel.modify_tensors.
    func storedOrder(
        _ matrix: Tensor, of name: String, numHeads: Int, numKeyValueHeads: Int, path: String
    ) throws -> Tensor {
        guard let order = rowOrder(name) else { return try matrix.contiguous() }
        let (count, parts) =
            switch order {
            case .interleavedQueries: (numHeads, 2)
            case .interleavedKeys: (numKeyValueHeads, 2)
            case .queriesKeysValues: (numHeads, 3)
            }
        let shape = matrix.shape
        guard count > 0, shape[0] > 0, shape[0].isMultiple(of: count * parts) else {
            throw CheckpointError.malformed(
                path: path,
                reason: "tensor \(name) of shape \(shape) does not divide into \(count) heads of "
                    + "\(parts) parts each",
                remedy: "the head counts are wrong: convert the model again")
        }
        let heads = try matrix.reshape([count, parts, shape[0] / (count * parts), shape[1]])
        let ordered =
            switch order {
            case .interleavedQueries, .interleavedKeys: try heads.transposed(1, 2)
            case .queriesKeysValues: try heads.transposed(0, 1)
            }
        return try ordered.contiguous().reshape(shape)
    }
}
