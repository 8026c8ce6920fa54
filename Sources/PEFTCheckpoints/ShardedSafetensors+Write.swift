package import Foundation
import PEFTAdapters

/// Writing the weights of a Hugging Face folder, named and divided as transformers' `save_pretrained` does.
extension ShardedSafetensors {
    /// What was written.
    package struct Written: Equatable {
        /// The weight files, in order.
        package let files: [String]
        /// Bytes of all tensors.
        package let sizeBytes: Int
    }

    /// Writes one file, or several and their index, which comes last.
    ///
    /// - Parameters:
    ///   - tensors: in the model's order; each is asked for when it is written.
    ///   - numParameters: elements of the model, for the index; of packed tensors it is not the elements of the files.
    ///   - maxShardBytes: the most bytes of tensors in one file; a larger tensor has a file of its own.
    ///   - metadata: strings for every file's header.
    ///   - folder: is there.
    /// - Returns: the files and their size.
    /// - Throws: `CheckpointError.cannotWrite`; what a tensor throws.
    /// - Source: transformers 5.23 `modeling_utils.py:save_pretrained`; huggingface_hub 2.4
    ///   `serialization/_base.py:split_state_dict_into_shards_factory`.
    package static func write(
        _ tensors: [SafetensorsTensor], numParameters: Int, maxShardBytes: Int,
        metadata: [String: String] = SafetensorsWriter.metadataOfTorch, to folder: URL
    ) throws -> Written {
        let shards = divided(tensors, maxShardBytes: maxShardBytes)
        let sizeBytes = tensors.reduce(0) { $0 + $1.sizeBytes }
        var files: [String] = []
        var weightMap: [String: ConfigValue] = [:]
        for (index, shard) in shards.enumerated() {
            let name =
                shards.count == 1
                ? singleName
                : String(format: "model-%05d-of-%05d.safetensors", index + 1, shards.count)
            try SafetensorsWriter.write(shard, metadata: metadata, to: folder.appending(path: name))
            files.append(name)
            for tensor in shard { weightMap[tensor.name] = .string(name) }
        }
        if shards.count > 1 {
            let index = ConfigValue.object([
                "metadata": .object([
                    "total_parameters": .int(numParameters), "total_size": .int(sizeBytes),
                ]),
                "weight_map": .object(weightMap),
            ])
            try AtomicFile.write(
                Data((index.pythonJSON + "\n").utf8), to: folder.appending(path: indexName))
        }
        return Written(files: files, sizeBytes: sizeBytes)
    }

    /// The tensors of each file: in order, as many as fit.
    private static func divided(
        _ tensors: [SafetensorsTensor], maxShardBytes: Int
    ) -> [[SafetensorsTensor]] {
        var shards: [[SafetensorsTensor]] = []
        var current: [SafetensorsTensor] = []
        var size = 0
        for tensor in tensors {
            guard tensor.sizeBytes <= maxShardBytes else {
                shards.append([tensor])
                continue
            }
            if size + tensor.sizeBytes > maxShardBytes {
                shards.append(current)
                (current, size) = ([], 0)
            }
            current.append(tensor)
            size += tensor.sizeBytes
        }
        return current.isEmpty && !shards.isEmpty ? shards : shards + [current]
    }
}
