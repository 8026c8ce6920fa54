import Foundation
import PEFTCheckpoints
import PEFTLayers
import PEFTSharding
import Torch

/// What all processes of a run must have in common before step 0.
enum Agreement {
    /// Compares named values of all processes.
    ///
    /// - Parameters:
    ///   - values: this process's, by name.
    ///   - topic: what they are.
    ///   - ranks: the processes.
    /// - Throws: ``TrainingError/ranksDiffer(topic:differences:)`` in every process, with each value that is not rank 0's.
    static func require(
        _ values: [String: String], topic: String, ranks: RankGroup
    ) throws {
        guard ranks.size > 1 else { return }
        let encoder = JSONEncoder()
        encoder.outputFormatting = .sortedKeys
        let text = String(decoding: try encoder.encode(values), as: UTF8.self)
        let all = try ranks.exchange(text, for: "agreement on \(topic)").map {
            try JSONDecoder().decode([String: String].self, from: Data($0.utf8))
        }
        var differences: [String] = []
        for (rank, found) in all.enumerated() {
            for key in Set(found.keys).union(all[0].keys).sorted() where found[key] != all[0][key] {
                differences.append(
                    "\(key) is \(found[key] ?? "missing") on rank \(rank), "
                        + "\(all[0][key] ?? "missing") on rank 0")
            }
        }
        guard differences.isEmpty else {
            throw TrainingError.ranksDiffer(topic: topic, differences: differences)
        }
    }

    /// Compares what the processes have read and made.
    ///
    /// - Throws: ``TrainingError/ranksDiffer(topic:differences:)``.
    static func require(
        _ prepared: PreparedRun, _ checkpoint: RunCheckpoint?, ranks: RankGroup
    ) throws {
        var values = [
            "the base model": prepared.base.fingerprint.description,
            "the rows": prepared.data.digest,
            "the held-out rows": prepared.heldOut.map(\.rows.digest).joined(separator: " "),
            "the checkpoint": checkpoint.map { "step \($0.state.step)" } ?? "none",
            "swift-peft": PEFTVersion.current, "libtorch": TorchRuntime.libraryVersion,
        ]
        let trainable = prepared.ready.sharded.trainableParameters
        values["the number of trainable tensors"] = String(trainable.count)
        for parameter in trainable { values[parameter.path] = parameter.value.summary }
        try require(values, topic: "model and data", ranks: ranks)
    }
}

extension FineTuneConfig {
    /// Every setting but the number of threads, which may differ from one process to the other, as text by key.
    var agreedSettings: [String: String] {
        var settings: [String: String] = [:]
        for option in Self.options where option.key != "threads" {
            settings[option.key] = YAMLWriter.text(of: option.get(self))
        }
        return settings
    }
}
