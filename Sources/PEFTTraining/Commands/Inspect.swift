import Foundation
import PEFTAdapters
import PEFTCheckpoints
import PEFTTokenizers

/// Describes a file or folder: what `peft inspect` does.
public enum Inspect {
    /// What is at a path, from headers and JSON documents alone.
    ///
    /// - Parameter options: the path.
    /// - Returns: kind, facts and tensors.
    /// - Throws: `CheckpointError` if nothing known is there, or a file of it is damaged.
    public static func run(_ options: InspectOptions) throws -> InspectReport {
        let found = try PathInspection(URL(filePath: options.path))
        var facts: JSONObject = [
            "num_parameters": .int(found.numElements),
            "size_bytes": .int(found.sizeBytes),
            "num_tensors": .int(found.tensors.count),
            "tensors_by_dtype": .object(tensorsByDType(found.tensors)),
            "files": .array(
                found.files.map {
                    .object(["name": .string($0.name), "size_bytes": .int($0.sizeBytes)])
                }),
        ]
        for (name, content) in found.documents.sorted(by: { $0.key < $1.key }) {
            facts[name] = JSONValue(content)
        }
        if !found.metadata.isEmpty {
            let metadata = found.metadata.sorted { $0.key < $1.key }
            facts["metadata"] = .object(
                JSONObject(metadata.map { ($0.key, JSONValue($0.value)) }))
        }
        return InspectReport(
            path: found.path, kind: found.kind.title, facts: facts,
            tensors: found.tensors.map {
                InspectReport.TensorEntry(name: $0.name, dtype: $0.dtype, shape: $0.shape)
            })
    }

    private static func tensorsByDType(_ tensors: [PathInspection.TensorSummary]) -> JSONObject {
        let groups = Dictionary(grouping: tensors, by: \.dtype).mapValues(\.count)
        return JSONObject(groups.sorted { $0.key < $1.key }.map { ($0.key, .int($0.value)) })
    }
}

extension PathInspection.Kind {
    /// The kind in words.
    fileprivate var title: String {
        switch self {
        case .model: "Hugging Face model"
        case .gguf: "GGUF model"
        case .safetensors: "safetensors file"
        case .adapter: "adapter"
        case .checkpoint: "checkpoint of a run"
        }
    }
}

extension JSONValue {
    /// The same value in the terms of the reports; keys in order.
    fileprivate init(_ value: ConfigValue) {
        switch value {
        case .null: self = .null
        case .bool(let flag): self = .bool(flag)
        case .int(let number): self = .int(number)
        case .double(let number): self = .double(number)
        case .string(let text): self = .string(text)
        case .array(let items): self = .array(items.map { JSONValue($0) })
        case .object(let members):
            let sorted = members.sorted { $0.key < $1.key }
            self = .object(JSONObject(sorted.map { ($0.key, JSONValue($0.value)) }))
        }
    }
}
